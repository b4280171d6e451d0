"""Reads a corpus of plain text, and keeps a part of it apart for good.

A corpus is a gzipped JSONL file of {"source", "text"}; which documents are held out is a hash of their source's
name, so it does not move when the file grows. It knows nothing of tokens.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_PER_MILLE = 20


@dataclass(frozen=True, slots=True)
class Document:
    source: str
    text: str

    @property
    def is_held_out(self) -> bool:
        return zlib.crc32(self.source.encode()) % 1000 < HELD_OUT_PER_MILLE


def documents(file: Path) -> Iterator[Document]:
    """Every document of a corpus, in its order. Raises ValueError naming the line that is none."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                yield Document(row["source"], row["text"])
            except (ValueError, KeyError, TypeError) as e:
                raise ValueError(f'{file} line {number}: not a document {{"source", "text"}} ({e}).') from e


def sources(file: Path) -> list[str]:
    """The repositories or collections that a corpus came from: the first two parts of its sources' paths."""
    return sorted({"/".join(d.source.split("/")[:2]) for d in documents(file)})
