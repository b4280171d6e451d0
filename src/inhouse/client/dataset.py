"""A data set: rows that were checked here and lie on the server, ready for tuning.

It knows files of rows; it starts no job.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO, cast

from inhouse import rows
from inhouse.client.http import Http
from inhouse.rows import Report, Row, RowProblem, Source
from inhouse.rows.facts import from_rows
from inhouse.schema import OnConflict

MAX_PROBLEMS = 100
SPOOL_BYTES = 8 * 2**20
"""Converted rows are held in memory up to here, and on disk beyond."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Checked rows on the server. Give it to `client.tune` as often as you like."""

    id: str
    name: str
    rows: int
    bytes: int
    _http: Http = field(repr=False, compare=False)

    def delete(self) -> None:
        """Remove it from the server. Jobs already started keep what they need."""
        self._http.call("DELETE", f"/v1/files/{self.id}")


@dataclass(frozen=True, slots=True)
class AsFacts:
    """That rows are to be facts of a memory, and what two answers to one question mean."""

    on_conflict: OnConflict | None = None


def upload(
    http: Http,
    source: Source,
    *,
    name: str | None = None,
    param: str = "training_file",
    facts: AsFacts | None = None,
) -> Dataset:
    """Check every row, then send them. Raises BadRows before a byte is sent.

    With `facts`, what is wrong with them as facts is told too: a second answer to a question, for instance.
    """
    with _checked(source, name, param, facts) as (report, content):
        reply = http.call(
            "POST",
            "/v1/files",
            upload=(report.name, content, {"purpose": "fine-tune"}),
            idempotency_key=uuid.uuid4().hex,
        )
    return Dataset(reply["id"], report.name, report.rows, int(reply["bytes"]), http)


@contextmanager
def _checked(
    source: Source, name: str | None, param: str, facts: AsFacts | None
) -> Iterator[tuple[Report, BinaryIO]]:
    """What a check found, and the JSONL to send: the file as it is, so that its line numbers stay true."""
    if isinstance(source, (str, Path)) and not _is_converted(Path(source)):
        report = _read(source, name, facts, lambda row: None)
        report.raise_problems(param=param)
        with Path(source).open("rb") as stream:
            yield report, stream
        return
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
        content = cast(BinaryIO, spool)
        report = _read(source, name, facts, lambda row: content.write(row.to_line()))
        report.raise_problems(param=param)  # under the name by which the user knows the file
        yield replace(report, name=f"{PurePath(report.name).stem}.jsonl"), content


def _is_converted(path: Path) -> bool:
    """CSV and Parquet are sent as JSONL: the server then needs no library for them."""
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PAR1"
    except OSError:
        return False  # rows.check says what is wrong with the path


def _read(source: Source, name: str | None, facts: AsFacts | None, keep: Callable[[Row], object]) -> Report:
    """What is in a source, and what is wrong with it; each good row is handed to `keep`."""
    count, problems = 0, []
    known_as = rows.name_of(source, name)

    def kept() -> Iterator[Row | RowProblem]:
        nonlocal count
        for item in rows.read(source, name=name):
            if isinstance(item, Row):
                count += 1
                keep(item)
            yield item

    if facts is not None:
        problems = list(from_rows(kept(), name=known_as, on_conflict=facts.on_conflict).problems)
    else:
        faulty = (item for item in kept() if isinstance(item, RowProblem))
        problems = list(islice(faulty, MAX_PROBLEMS))
    return Report(name=known_as, rows=count, problems=tuple(problems))
