"""Parquet files as lines of JSON, unpacked by a process of its own within a limit on memory.

A Parquet file says each value once and how often it stands there, so a few kilobytes may unpack to terabytes, and what
a file says of its own size need not be true. It knows Parquet; what a line means is for whoever reads the lines.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO, cast

from inhouse.system import limit_memory

MEMORY_BYTES = 2**30
"""What unpacking may add to the process. pyarrow unpacks some pages of each column at a time."""
MAX_ROW_GROUP_BYTES = 512 * 2**20
MAX_RATIO = 100
"""Unpacked bytes for a packed one; text packs to a tenth, a column of one value to less."""
MANY_BYTES = 64 * 2**20
"""The ratio is no matter below this."""
ROWS_AT_ONCE = 16
MAGIC = b"PAR1"
_SAID = 3
"""Exit code of the process: it says on standard error why the file cannot be read."""


@dataclass(slots=True)
class Unpacking:
    """A file being unpacked. `lines` ends early where `fault` (reason, cure) says why."""

    lines: IO[bytes]
    most_bytes: int
    fault: tuple[str, str] | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _left: int = 0

    def readline(self, limit: int = -1, /) -> bytes:
        """As a file's own, until it has told more than a file of this size may."""
        piece = self.lines.readline(limit)
        self._left -= len(piece)
        if self._left < 0:
            self.fault = (
                f"the file unpacks to more than {MAX_RATIO} times its size.",
                "If that is meant, send it as JSONL.",
            )
            return b""
        if not piece:
            self._note_end()
        return piece

    def _note_end(self) -> None:
        assert self._process is not None and self._process.stderr is not None, "it was started with pipes"
        said = self._process.stderr.read().decode(errors="replace").strip()
        code = self._process.wait()
        if code == _SAID:
            self.fault = json.loads(said)
        elif code:
            self.fault = (
                f"the file takes more than {MEMORY_BYTES // 2**20} MiB to unpack, or is damaged.",
                "Write it with smaller rows and row groups, or as JSONL.",
            )


def refusal(stream: BinaryIO) -> tuple[str, str] | None:
    """Why (reason, cure) it is not worth a process: its library is not there, or its end is no Parquet's."""
    if importlib.util.find_spec("pyarrow") is None:
        return "Parquet needs a library that is not installed.", "Run: pip install 'inhouse[parquet]'"
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 8))
    end = stream.read(8)
    if size < 12 or not end.endswith(MAGIC) or int.from_bytes(end[:4], "little") > size - 12:
        return "is not readable Parquet (its end is missing).", "Write it again."
    return None


@contextlib.contextmanager
def unpacked(stream: BinaryIO) -> Iterator[Unpacking]:
    """The file's rows, an object of JSON a line."""
    with _as_file(stream) as file:
        size = os.fstat(file.fileno()).st_size
        process = subprocess.Popen(
            [sys.executable, "-c", f"from inhouse.rows.parquet import main; main({MEMORY_BYTES})"],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None, "it was started with pipes"
        most = max(MANY_BYTES, MAX_RATIO * size)
        try:
            yield Unpacking(process.stdout, most, _process=process, _left=most)
        finally:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def _as_file(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The stream itself where it is a file of the system's, else a copy of it."""
    try:
        stream.fileno()
    except (OSError, AttributeError):
        with tempfile.TemporaryFile() as copy:
            stream.seek(0)
            while piece := stream.read(2**20):
                copy.write(piece)
            copy.flush()
            yield cast(BinaryIO, copy)
        return
    yield stream


# ── in the process ────────────────────────────────────────────────────────────────────────────────────────


def main(memory_bytes: int) -> None:
    """Writes the rows of the Parquet file on standard input to standard output."""
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = (
        "system"  # others reserve a gigabyte of addresses when they begin
    )
    import pyarrow
    from pyarrow import parquet

    limit_memory(memory_bytes)
    number = 0
    try:
        with os.fdopen(os.dup(0), "rb") as source:
            source.seek(0)
            file = parquet.ParquetFile(source)
            groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
            if any(group.total_byte_size > MAX_ROW_GROUP_BYTES for group in groups):
                _say(f"the file has a row group over {MAX_ROW_GROUP_BYTES:,} bytes.",
                     "Write it with smaller row groups, or as JSONL.")  # fmt: skip
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    sys.stdout.write(json.dumps(row, default=_no_json) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has read enough
        os._exit(0)
    except (pyarrow.ArrowMemoryError, MemoryError):
        os._exit(1)
    except (pyarrow.ArrowException, OSError, ValueError, RecursionError) as e:
        sys.stdout.flush()
        _say(f"is not readable Parquet ({str(e)[:120]}).", "Write it again.")


def _no_json(value: Any) -> str:
    raise ValueError(f"a value of type {type(value).__name__} is not text, a number or a list of these")


def _say(reason: str, cure: str) -> None:
    sys.stderr.write(json.dumps((reason, cure)))
    sys.stderr.flush()
    os._exit(_SAID)
