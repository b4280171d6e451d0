"""Sources as a stream of rows and problems: JSONL, CSV and Parquet files, open files, Python iterables.

It knows where a row stands and reads in bounded memory, whatever the file holds. What a row means is
formats.py's business.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeAlias, cast

from inhouse.errors import MOST_PROBLEMS, BadRows, InvalidRequest, RowProblem
from inhouse.rows import parquet
from inhouse.rows.fields import BadRow
from inhouse.rows.formats import conversation
from inhouse.rows.parquet import Unpacking
from inhouse.rows.row import Row
from inhouse.rows.strict_json import Unparsable, decode, parse_object, short

MAX_LINE_BYTES = 4 * 2**20

Source: TypeAlias = Path | str | BinaryIO | Iterable[Any]
"""A path, a file open for bytes, or an iterable of dicts, (question, reply) pairs or Rows."""


@dataclass(frozen=True, slots=True)
class Item:
    """What stands at one place of a source, whatever it may mean."""

    line: int
    value: Any


_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive (or a spreadsheet)",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"%PDF": "a PDF document",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What a check of a source found. `problems` is in line order and capped at the check's limit."""

    name: str
    rows: int
    problems: tuple[RowProblem, ...] = ()
    formats: dict[str, int] = field(default_factory=dict)
    is_complete: bool = True
    """False when the check stopped early, at its limit of problems."""

    @property
    def is_ok(self) -> bool:
        return not self.problems

    def raise_problems(self, *, param: str | None = "training_file") -> None:
        """Raise BadRows if there are any."""
        if self.problems:
            raise BadRows(self.name, self.problems, param=param)


def read(
    source: Source, *, name: str | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Row | RowProblem]:
    """Each row or its problem, in order; a source without any row ends in a problem that says so.

    Memory is bounded by a few times max_line_bytes. Raises InvalidRequest when a path cannot be opened.
    """
    found = _items(source, name, max_line_bytes)
    yield from _told_if_empty(_row(item) if isinstance(item, Item) else item for item in found)


def items(
    source: Source, *, name: str | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Item | RowProblem]:
    """Each item of a source as it stands, or its problem, in order; as bounded in memory as `read`.

    Raises InvalidRequest when a path cannot be opened.
    """
    return (item for item in _items(source, name, max_line_bytes) if not isinstance(item, int))


def check(
    source: Source,
    *,
    name: str | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    limit: int = MOST_PROBLEMS,
) -> Report:
    """Read the source through and report; stops at `limit` problems."""
    formats: Counter[str] = Counter()
    problems: list[RowProblem] = []
    for item in read(source, name=name, max_line_bytes=max_line_bytes):
        if isinstance(item, Row):
            formats[item.format] += 1
            continue
        problems.append(item)
        if len(problems) >= limit:
            break
    return Report(
        name=name_of(source, name),
        rows=formats.total(),
        problems=tuple(problems),
        formats=dict(formats),
        is_complete=len(problems) < limit,
    )


def load(source: Source, *, name: str | None = None, max_line_bytes: int = MAX_LINE_BYTES) -> list[Row]:
    """Every row, or BadRows with up to 100 problems."""
    rows: list[Row] = []
    problems: list[RowProblem] = []
    for item in read(source, name=name, max_line_bytes=max_line_bytes):
        if isinstance(item, RowProblem):
            problems.append(item)
            rows.clear()
            if len(problems) >= MOST_PROBLEMS:
                break
        elif not problems:
            rows.append(item)
    if problems:
        raise BadRows(name_of(source, name), problems)
    return rows


def name_of(source: Source, name: str | None = None) -> str:
    """What to call a source in messages."""
    if name:
        return name
    return PurePath(source).name if isinstance(source, (str, Path)) else "rows"


# ── what a source holds ───────────────────────────────────────────────────────────────────────────────────


def _told_if_empty(items: Iterator[Row | RowProblem | int]) -> Iterator[Row | RowProblem]:
    """Pass rows and problems on; an int is a line that was blank."""
    any_item = False
    line = 0
    for item in items:
        if isinstance(item, int):
            line = item
            continue
        any_item = True
        yield item
    if not any_item:
        reason = f"holds only blank lines ({line} of them)." if line else "holds no rows: it is empty."
        yield RowProblem(max(line, 1), None, reason, "Add at least one question with its reply.")


def _items(source: Source, name: str | None, max_line_bytes: int) -> Iterator[Item | RowProblem | int]:
    """What a source holds; an int is a line that was blank."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        try:
            stream = path.open("rb")
        except OSError as e:
            raise InvalidRequest(_unopened(path, e), param="training_file") from e
        with stream:
            yield from _records(stream, name or path.name, max_line_bytes)
    elif hasattr(source, "readline"):
        yield from _records(cast(BinaryIO, source), name or "", max_line_bytes)
    else:
        yield from _listed(source)


def _listed(source: Iterable[Any]) -> Iterator[Item]:
    if isinstance(source, (Mapping, bytes)) or not hasattr(source, "__iter__"):
        raise InvalidRequest(
            f"rows come from a path, a file or an iterable of dicts, not from a {type(source).__name__}.",
            param="training_file",
        )
    for number, item in enumerate(source, start=1):
        yield Item(number, item)


def _row(found: Item) -> Row | RowProblem:
    line, item = found.line, found.value
    if isinstance(item, Row):
        return replace(item, line=line)
    if isinstance(item, (tuple, list)) and len(item) == 2:
        item = {"input": item[0], "output": item[1]}
    if not isinstance(item, Mapping):
        return RowProblem(
            line, None, f"is {short(item)}, not a row.", "Give a dict, or a pair (question, reply)."
        )
    try:
        return conversation(item, line)
    except BadRow as e:
        return RowProblem(line, e.field, e.reason, e.cure)


def _records(stream: BinaryIO, name: str, max_line_bytes: int) -> Iterator[Item | RowProblem | int]:
    """Dispatch by what the first line holds, then by the name's ending."""
    lines = _lines(stream, max_line_bytes)
    first = next(lines, None)
    if first is None:
        return
    head = first.head
    if head.startswith(b"PAR1"):
        yield from _parquet(stream, max_line_bytes)
        return
    if problem := _wrong_kind(head):
        yield problem
        return
    if name.lower().endswith((".csv", ".tsv")):
        yield from _csv(_chain(first, lines), max_line_bytes)
    else:
        yield from _jsonl(_chain(first, lines), max_line_bytes)


def _wrong_kind(head: bytes) -> RowProblem | None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return RowProblem(
                1, None, f"the file is {kind}, not text.", "Unpack it, and give the file inside."
            )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        return RowProblem(1, None, "the file is UTF-16 or UTF-32, not UTF-8.", "Save it as UTF-8.")
    return None


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    offset: int
    head: bytes
    """Its first bytes, also of a line that is too long."""
    content: bytes | None
    """None: longer than the limit, and skipped without being held."""


def _lines(stream: BinaryIO | Unpacking, max_line_bytes: int) -> Iterator[_Line]:
    number = offset = 0
    while piece := stream.readline(max_line_bytes + 1):
        number += 1
        start = offset
        offset += len(piece)
        if len(piece) <= max_line_bytes or piece.endswith(b"\n"):
            content = piece.removeprefix(b"\xef\xbb\xbf") if number == 1 else piece
            yield _Line(number, start + len(piece) - len(content), piece[:8], content)
            continue
        head = piece[:8]
        del piece
        while rest := stream.readline(2**16):
            offset += len(rest)
            if rest.endswith(b"\n"):
                break
        yield _Line(number, start, head, None)


def _chain(first: _Line, rest: Iterator[_Line]) -> Iterator[_Line]:
    yield first
    yield from rest


def _too_long(line: int, max_line_bytes: int) -> RowProblem:
    return RowProblem(
        line,
        None,
        f"is longer than {max_line_bytes:,} bytes.",
        "Split the row, or check that the file has a newline after each row.",
    )


def _jsonl(lines: Iterator[_Line], max_line_bytes: int) -> Iterator[Item | RowProblem | int]:
    is_first = True
    for line in lines:
        if line.content is None:
            yield _too_long(line.number, max_line_bytes)
            continue
        content = line.content.strip()
        if not content:
            yield line.number
            continue
        if is_first and content.startswith(b"["):
            yield RowProblem(
                line.number,
                None,
                "the file is one JSON array, not one object a line.",
                "Convert it: jq -c '.[]' rows.json > rows.jsonl",
            )
            return
        is_first = False
        indent = len(line.content) - len(line.content.lstrip())
        try:
            yield Item(line.number, parse_object(content, offset=line.offset + indent))
        except Unparsable as e:
            yield RowProblem(line.number, None, e.reason, e.cure)


# ── CSV ───────────────────────────────────────────────────────────────────────────────────────────────────


class _CsvText:
    """Decoded lines for csv.reader; remembers the faults of the record being read and bounds its size."""

    def __init__(self, lines: Iterator[_Line], max_line_bytes: int) -> None:
        self._lines = lines
        self._max_bytes = max_line_bytes
        self._held_bytes = 0
        self._fault: RowProblem | None = None

    def __iter__(self) -> _CsvText:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._held_bytes += len(line.content or b"")
        if line.content is None or self._held_bytes > self._max_bytes:
            raise _EndOfCsv(_too_long(line.number, self._max_bytes))
        try:
            return decode(line.content, offset=line.offset)
        except Unparsable as e:
            self._fault = self._fault or RowProblem(line.number, None, e.reason, e.cure)
            return line.content.decode("utf-8", errors="replace")

    def record_done(self) -> RowProblem | None:
        """Begin a new record; returns what was wrong with the last one's bytes."""
        fault, self._fault, self._held_bytes = self._fault, None, 0
        return fault


class _EndOfCsv(Exception):
    def __init__(self, problem: RowProblem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


def _csv(lines: Iterator[_Line], max_line_bytes: int) -> Iterator[Item | RowProblem | int]:
    first = next(lines)
    header_line = (first.content or b"").decode("utf-8", errors="replace")
    delimiter = max(",;\t", key=header_line.count)
    text = _CsvText(_chain(first, lines), max_line_bytes)
    records = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    has_rows = False
    ended = 0
    while True:
        start = ended + 1
        try:
            cells = next(records)
        except StopIteration:
            if header is not None and not has_rows:
                yield RowProblem(1, None, "the file has a header but no rows.", "Add a row below it.")
            return
        except _EndOfCsv as e:
            yield e.problem
            return
        except csv.Error as e:
            yield RowProblem(
                max(records.line_num, 1), None, f"is not valid CSV ({e}).", "Mend the quotes, or use JSONL."
            )
            return
        ended = records.line_num
        has_rows = has_rows or (header is not None and any(cells))
        if fault := text.record_done():
            yield fault
            if header is None:
                return
        elif not any(cells):
            yield start
        elif header is None:
            header = [cell.strip() for cell in cells]
            if len(set(header)) != len(header):
                yield RowProblem(start, None, "a column's name stands twice in the header.", "Rename one.")
                return
        elif len(cells) != len(header):
            yield RowProblem(
                start,
                None,
                f"has {len(cells)} cells where the header has {len(header)}.",
                "Mend its quotes or commas.",
            )
        else:
            yield Item(start, dict(zip(header, cells, strict=True)))


# ── Parquet ───────────────────────────────────────────────────────────────────────────────────────────────


def _parquet(stream: BinaryIO, max_line_bytes: int) -> Iterator[Item | RowProblem | int]:
    number = 0
    if (refusal := parquet.refusal(stream)) is not None:
        yield RowProblem(1, None, *refusal)
        return
    with parquet.unpacked(stream) as unpacking:
        for line in _lines(unpacking, max_line_bytes):
            number = line.number
            if line.content is None:
                yield _too_long(number, max_line_bytes)
                continue
            try:
                yield Item(number, parse_object(line.content, offset=line.offset))
            except Unparsable as e:
                yield RowProblem(number, None, e.reason, e.cure)
        if unpacking.fault is not None:
            yield RowProblem(number + 1, None, *unpacking.fault)


def _unopened(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no such file. Check the path."
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder. Name the file of rows inside it."
    if isinstance(error, PermissionError):
        return f"{path} may not be read by this user. Change its permissions."
    return f"{path} cannot be opened: {error.strerror or error}."
