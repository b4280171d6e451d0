"""How every process of the house logs: one line an event, as JSON or as text, with whose it was and without secrets.

It knows records and streams, no server, job or model. Only entry points call `configure`; everybody else logs by
`logging.getLogger(__name__)`, and says with `about` whom the lines within concern.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

Form = Literal["json", "text"]

IDS = ("request_id", "project", "job")
"""Whom a line is about, where that is known."""
FIELDS = (*IDS, "key", "method", "path", "status", "duration_ms", "bytes_sent", "outcome")
"""What a line may hold beside its message: no other `extra` is written, so nothing gets in unnoticed."""
FILE_BYTES = 8 * 2**20
"""A log file that we keep ourselves is turned over at this size, and one older part stays."""
MOST_CHARACTERS = 16_384
"""A message is cut here: one line must not fill a disk."""

_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)
_SECRETS = re.compile(
    r"\b(sk-)[A-Za-z0-9_\-]{6,}|((?:Bearer|Basic) )[^\s'\"]{6,}|(://[^\s:/@'\"]+:)[^\s@/?#'\"]+(?=@)"
)


@contextlib.contextmanager
def about(**ids: str) -> Iterator[None]:
    """Within, every line of this task or thread carries these of IDS."""
    token = _about.set({**(_about.get() or {}), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def redacted(text: str) -> str:
    """The text without what looks like a key, an authorization or a password in a URL."""
    return _SECRETS.sub(lambda found: f"{next(filter(None, found.groups()))}***", text)


def place(fault: BaseException) -> str:
    """Where a fault happened and of what type, without its message: that may quote a prompt or a key."""
    frames = traceback.extract_tb(fault.__traceback__)
    return f"{type(fault).__name__} at " + " < ".join(
        f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames)
    )


def form_of(chosen: str, stream: Any) -> Form:
    """auto: text where somebody reads along on a terminal, JSON lines elsewhere."""
    if chosen in ("json", "text"):
        return "json" if chosen == "json" else "text"
    return "text" if stream.isatty() else "json"


def configure(
    level: str, form: str, process: str, *, file: Path | None = None, job: str | None = None
) -> None:
    """Sends this process's lines to standard error, uncaught faults and warnings included.

    Does nothing where somebody else has set up logging already. Where standard error is `file`, the file is turned
    over at FILE_BYTES. A process that runs one job says which: every line of it is about that.
    """
    if logging.root.handlers:
        return
    stream = sys.stderr
    handler = _OwnFile(file) if file is not None and _is(file, stream) else logging.StreamHandler(stream)
    lines = JsonLines if form_of(form, stream) == "json" else TextLines
    handler.setFormatter(lines(process, {"job": job} if job else {}))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    sys.excepthook = _tell_uncaught
    threading.excepthook = lambda args: _tell_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


class _Lines(logging.Formatter):
    """What both forms share: the words of a record, and what it is about."""

    def __init__(self, process: str, always: Mapping[str, str]) -> None:
        """always  those of IDS that every line of this process is about"""
        super().__init__()
        self.process = process
        self.always = always

    def said(self, record: logging.LogRecord) -> str:
        """The message. Of a stranger's the first line only: what follows, asyncio's most of all, quotes values."""
        text = record.getMessage()
        if not record.name.startswith("inhouse"):
            text = text.partition("\n")[0]
        if len(text) > MOST_CHARACTERS:
            text = text[:MOST_CHARACTERS] + " …"
        return redacted(text)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        own = {name: value for name, value in vars(record).items() if name in FIELDS and value is not None}
        known = {**self.always, **(_about.get() or {}), **own}
        return {
            name: redacted(value) if isinstance(value, str) else value
            for name in FIELDS
            if (value := known.get(name)) not in (None, "")
        }

    def fault(self, record: logging.LogRecord) -> str | None:
        raised = record.exc_info and record.exc_info[1]
        return place(raised) if raised else None


class JsonLines(_Lines):
    """One JSON object a line: time (UTC, RFC 3339), level, logger, process, message, then FIELDS and a fault."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": f"{self.process}:{record.process}",
            "message": self.said(record),
            **self.fields(record),
        }
        if fault := self.fault(record):
            line["fault"] = fault
        return json.dumps(line, ensure_ascii=True, default=str)


class TextLines(_Lines):
    """For a terminal: the same words, further lines of a message set in, nothing that moves the cursor."""

    def format(self, record: logging.LogRecord) -> str:
        known = self.fields(record)
        about = "".join(f" {name}={known[name]}" for name in IDS if name in known)
        fault = self.fault(record)
        text = self.said(record) + (f" ({fault})" if fault else "")
        line = f"{_time(record)} {record.levelname} {record.name}{about} {text}"
        return "\n    ".join(
            "".join(c if c.isprintable() else " " for c in part) for part in line.split("\n")
        )


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


class _OwnFile(logging.StreamHandler[Any]):
    """Standard error that is a file of ours: turned over when it is full, whatever else writes to it."""

    def __init__(self, file: Path) -> None:
        super().__init__(sys.stderr)
        self.file = file

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a full disk loses lines of the log, never the server
            if os.fstat(2).st_size > FILE_BYTES:
                self._turn_over()
        super().emit(record)

    def _turn_over(self) -> None:
        """The file becomes `.1`, and standard output and error go on in a new one."""
        self.file.replace(self.file.with_name(self.file.name + ".1"))
        fresh = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(fresh, descriptor)
        os.close(fresh)


def _is(file: Path, stream: Any) -> bool:
    """Whether what is written to the stream lands in this file."""
    try:
        return os.path.sameopenfile(stream.fileno(), 2) and os.path.samestat(os.fstat(2), file.stat())
    except (OSError, ValueError):
        return False


def _tell_uncaught(
    kind: type[BaseException], raised: BaseException | None, where: TracebackType | None
) -> None:
    """The last line of a process or thread that a fault ends. A Ctrl-C is none."""
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        log = logging.getLogger("inhouse.uncaught")
        log.critical("ended by a fault that nobody caught: %s", place(raised) if raised else kind.__name__)
