"""An exported audit log, checked without any server. It knows the file and the chain."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inhouse.client.admin import Verification
from inhouse.errors import InvalidRequest
from inhouse.store import chain
from inhouse.store.chain import Act, Head

_HEAD = "x.audit.head"


def verify_file(file: Path, noted: str | None) -> Verification:
    """Whether the log in this file is what was written. Raises InvalidRequest for a file that is none."""
    if not file.is_file():
        raise InvalidRequest(f"There is no file {file}.", param="file")
    head = _head_in(file)
    earlier = None if noted is None else _head(noted)
    found = [dataclasses.asdict(one) for one in chain.breaks(_acts_in(file), head, earlier)]
    return Verification(not found, head.seq, str(head), tuple(found))


def _lines_in(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and what it says."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                said = json.loads(line)
            except ValueError:
                raise _no_act(file, number) from None
            if not isinstance(said, dict):
                raise _no_act(file, number)
            yield number, said


def _head_in(file: Path) -> Head:
    """The head in the last line; without it nobody knows whether the end is there."""
    last = deque(_lines_in(file), maxlen=1)
    said = last[0][1] if last else {}
    try:
        if said.pop("object") == _HEAD:
            return Head(**said)
    except (KeyError, TypeError):
        pass
    raise InvalidRequest(
        f"{file} has no head in its last line: its end is missing, or it is no export of an audit log.",
        param="file",
    )


def _acts_in(file: Path) -> Iterator[Act]:
    for number, said in _lines_in(file):
        if said.pop("object", None) == _HEAD:
            return
        try:
            yield Act(**said)
        except TypeError:
            raise _no_act(file, number) from None


def _no_act(file: Path, number: int) -> InvalidRequest:
    return InvalidRequest(f"{file} line {number} is no act of an audit log.", param="file")


def _head(text: str) -> Head:
    seq, _, hash = text.partition(":")
    if not seq.isdecimal() or not re.fullmatch("[0-9a-f]{64}", hash):
        raise InvalidRequest(
            f"--noted {text} is no head. Give one as `inhouse audit verify` prints it, whole.", param="noted"
        )
    return Head(int(seq), hash)
