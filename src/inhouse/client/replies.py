"""Replies to rows, and the file that keeps them: one line a row, in the rows' order, whatever happens.

It knows what a line says and how far a file has come; it asks nobody anything.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from inhouse.errors import Conflict, InhouseError, InvalidRequest, StorageFull
from inhouse.rows.prompts import Prompt

log = logging.getLogger(__name__)

SYNC_EVERY_S = 0.5
"""How much work a power cut may cost. What is killed loses nothing that was written."""
DIGEST_DIGITS = 16
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(frozen=True, slots=True)
class Asked:
    """A row as it is sent: its place, its prompt, and the body with model and sampling filled in."""

    index: int
    """The row's place in the source, from 0."""
    prompt: Prompt
    body: Mapping[str, Any]
    keeps_input: bool = False

    @property
    def digest(self) -> str:
        """Tells this request from any other; the same row asked the same way has the same."""
        prompt = self.prompt
        parts = [prompt.id, prompt.path, self.body, prompt.expected, self.keeps_input]
        text = json.dumps([*parts, str(prompt.problem or "")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one row: its text, or its error."""

    index: int
    """The row's place in the source, from 0."""
    id: str | None = None
    """What the row calls itself."""
    text: str | None = None
    """None where there is an error, or nothing but tool calls."""
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    """prompt_tokens, completion_tokens, total_tokens."""
    error: InhouseError | None = None
    expected: str | None = None
    """The reply that the row itself holds, where it comes from a training file: its text, or its calls as JSON."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else was asked for or came along: input, logprobs, tool_calls, a memory's x_facts and x_memory."""
    fingerprint: str | None = None
    """Of the base and of the numbers it was served in: `system_fingerprint`."""
    digest: str = field(default="", repr=False)

    @classmethod
    def from_wire(cls, asked: Asked, wire: Mapping[str, Any]) -> Reply:
        """The reply that a server's answer holds."""
        choice = wire["choices"][0]
        kept = {name: wire[name] for name in ("x_facts", "x_memory") if wire.get(name) is not None}
        if choice.get("logprobs") is not None:
            kept["logprobs"] = choice["logprobs"]
        message = choice.get("message") or {}
        if message.get("tool_calls"):
            kept["tool_calls"] = message["tool_calls"]
        made = cls._of(asked)
        return replace(
            made,
            text=message["content"] if message else choice["text"],
            finish_reason=choice.get("finish_reason"),
            usage={name: wire["usage"][name] for name in _COUNTS},
            more={**made.more, **kept},
            fingerprint=wire.get("system_fingerprint"),
        )

    @classmethod
    def from_error(cls, asked: Asked, error: InhouseError) -> Reply:
        """The row's line where it has no reply."""
        return replace(cls._of(asked), error=error)

    @classmethod
    def _of(cls, asked: Asked) -> Reply:
        prompt = asked.prompt
        return cls(
            index=asked.index,
            id=prompt.id,
            expected=prompt.expected,
            more={"input": prompt.given} if asked.keeps_input else {},
            digest=asked.digest,
        )

    def to_line(self) -> bytes:
        """One line of JSON, newline included. Nothing in it depends on when or how fast it was made."""
        error = self.error.to_wire()["error"] if self.error else None
        fields = {
            "index": self.index,
            "id": self.id,
            **self.more,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": {**self.usage},
            "expected": self.expected,
            "error": error,
            "fingerprint": self.fingerprint,
            "digest": self.digest,
        }
        told = {name: value for name, value in fields.items() if value not in (None, {})}
        text = json.dumps(told, ensure_ascii=False, separators=(",", ":"), default=str)
        return text.encode(errors="backslashreplace") + b"\n"


@dataclass(frozen=True, slots=True)
class Summary:
    """How far a file of replies has come, or what it holds in the end."""

    rows: int = 0
    """Lines of the file."""
    errors: int = 0
    """Of these, rows without a reply."""
    resumed: int = 0
    """Of these, rows that an earlier run had answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens of this run."""
    seconds: float = 0.0
    """Of this run."""

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens a second of this run."""
        return self.completion_tokens / self.seconds if self.seconds else 0.0

    def to_object(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "rows": self.rows,
            "errors": self.errors,
            "resumed": self.resumed,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
        }


def counted(rows: int) -> str:
    """1 row, 1,204 rows."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


class ReplyFile:
    """An open file of replies. A line is whole or not there; what is whole is never asked again."""

    def __init__(self, path: Path, *, restart: bool = False) -> None:
        """Opens or makes the file. Raises InvalidRequest, and Conflict while another run writes it."""
        self.path = path
        try:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as e:
            raise InvalidRequest(f"{path} cannot be written: {e.strerror or e}. Name another file.") from e
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            self._file.close()
            raise InvalidRequest(f"{path} is no file that a run could take up again. Name another one.")
        self._lock()
        if restart:
            self._file.truncate(0)
        self.rows = self.errors = 0
        self._fingerprint: str | None = None
        """That of the newest reply."""
        self._synced_at = time.monotonic()

    def __enter__(self) -> ReplyFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(StorageFull) if kind else nullcontext():
                self._sync()
        finally:
            with suppress(OSError):  # what a full disk did not take is not taken now, either
                self._file.close()

    def left(self, rows: Iterator[Asked]) -> Iterator[Asked]:
        """The rows that are not answered yet. A torn last line is cut off.

        Raises Conflict where the file answers other rows than these, or rows that were asked another way.
        """
        while line := self._file.readline():
            if not line.endswith(b"\n"):
                self._file.seek(-len(line), os.SEEK_END)
                self._file.truncate()
                break
            row = next(rows, None)
            self._check(line, row)
            self.rows += 1
        return rows

    def append(self, reply: Reply) -> bool:
        """Adds a line; True where all lines so far are safe from a power cut as well.

        Warns where the base was served in other numbers than for the reply before.
        """
        self._compare(reply)
        with self._writing():
            self._file.write(reply.to_line())
            self._file.flush()
        self.rows += 1
        self.errors += reply.error is not None
        if time.monotonic() - self._synced_at < SYNC_EVERY_S:
            return False
        self._sync()
        return True

    def _compare(self, reply: Reply) -> None:
        if reply.fingerprint is None:
            return
        if self._fingerprint not in (None, reply.fingerprint):
            log.warning(
                "%s: the replies from row %d on are served as %s, those before as %s, so they may differ from an "
                "unbroken run's. Start the server with the settings it had, or begin anew with --restart.",
                self.path,
                reply.index + 1,
                reply.fingerprint,
                self._fingerprint,
            )
        self._fingerprint = reply.fingerprint

    def _sync(self) -> None:
        with self._writing():
            os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise StorageFull(
                f"{self.path} cannot be written ({e.strerror or e}). Make room and run the same again: "
                "it goes on behind the last whole line."
            ) from e

    def _check(self, line: bytes, row: Asked | None) -> None:
        where = f"{self.path} line {self.rows + 1}"
        cure = "Name another file, or begin anew with --restart (restart=True)."
        try:
            kept = json.loads(line)
            digest, index, is_error = kept["digest"], kept["index"], "error" in kept
            fingerprint = kept.get("fingerprint")
        except (ValueError, KeyError, TypeError):
            raise Conflict(f"{where} is no reply to a row. {cure}") from None
        if row is None:
            raise Conflict(f"{where} answers a row that the input no longer has. {cure}")
        if (digest, index) != (row.digest, row.index):
            raise Conflict(
                f"{where} answers another request than row {row.index + 1} is now: the row, the model or "
                f"an option has changed. {cure}"
            )
        self.errors += is_error
        self._fingerprint = fingerprint or self._fingerprint

    def _lock(self) -> None:
        """Keeps a second run off the file, on systems that have such locks."""
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise Conflict(f"{self.path} is being written by another run. Wait for it to end.") from None
