"""A data set: rows that were checked here and lie on the server, ready for tuning.

It knows files of rows; it starts no job.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO, cast

from inhouse import rows
from inhouse.client.http import Http
from inhouse.rows import BadRows, Report, Row, RowProblem, Source

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


def upload(http: Http, source: Source, *, name: str | None = None, param: str = "training_file") -> Dataset:
    """Check every row, then send them. Raises BadRows before a byte is sent."""
    with _checked(source, name, param) as (report, content):
        reply = http.call(
            "POST",
            "/v1/files",
            upload=(report.name, content, {"purpose": "fine-tune"}),
            idempotency_key=uuid.uuid4().hex,
        )
    return Dataset(reply["id"], report.name, report.rows, int(reply["bytes"]), http)


@contextmanager
def _checked(source: Source, name: str | None, param: str) -> Iterator[tuple[Report, BinaryIO]]:
    """What a check found, and the JSONL to send: the file as it is, so that its line numbers stay true."""
    if isinstance(source, (str, Path)) and not _is_converted(Path(source)):
        report = rows.check(source, name=name, limit=MAX_PROBLEMS)
        report.raise_problems(param=param)
        with Path(source).open("rb") as stream:
            yield report, stream
        return
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
        content = cast(BinaryIO, spool)
        report = _convert(source, name, content)
        report.raise_problems(param=param)
        yield report, content


def _is_converted(path: Path) -> bool:
    """CSV and Parquet are sent as JSONL: the server then needs no library for them."""
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PAR1"
    except OSError:
        return False  # rows.check says what is wrong with the path


def _convert(source: Source, name: str | None, target: BinaryIO) -> Report:
    problems: list[RowProblem] = []
    count = 0
    for item in rows.read(source, name=name):
        if isinstance(item, Row):
            count += 1
            if not problems:
                target.write(item.to_line())
        else:
            problems.append(item)
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:  # problems name the file as the user knows it
        raise BadRows(rows.name_of(source, name), problems)
    stem = PurePath(rows.name_of(source, name)).stem
    return Report(name=f"{stem}.jsonl", rows=count)
