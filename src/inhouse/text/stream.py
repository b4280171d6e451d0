"""A sequence's tokens as text that is safe to send.

It knows bytes and stop strings. It does not know why a sequence ends otherwise, nor who reads the text.
"""

from __future__ import annotations

import codecs
from typing import Protocol


class TokenBytes(Protocol):
    """What a stream needs of a tokenizer."""

    def token_bytes(self, token: int, /) -> bytes:
        """A token's bytes; none for a special token."""


class TextStream:
    """Turns tokens into text, piece by piece; the pieces joined are the whole text.

    A character is held back until all its bytes are there, and so is the longest ending that may yet become a
    stop string. Bytes that are no UTF-8 come out as U+FFFD, exactly as when decoded whole. Of several stop
    strings the one that is complete first counts, whatever the tokens' borders; neither it nor any part of it
    is ever returned.
    """

    def __init__(self, tokenizer: TokenBytes, stop: tuple[str, ...] = ()) -> None:
        assert all(stop), "an empty stop string would stop before the first token; the engine refuses it"
        self._tokenizer = tokenizer
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False
        """Whether a stop string was completed; nothing more comes out."""
        self.received = 0
        """Characters decoded so far."""
        self.emitted = 0
        """Characters returned so far."""

    def push(self, token: int) -> str:
        """The text that this token makes safe to send; often empty."""
        return self._take(self._tokenizer.token_bytes(token), final=False)

    def finish(self) -> str:
        """What was held back; the sequence ends here."""
        return self._take(b"", final=True)

    def _take(self, data: bytes, *, final: bool) -> str:
        if self.stopped:
            return ""
        fresh = self._decoder.decode(data, final)
        self.received += len(fresh)
        text = self._held + fresh
        cut = self._stop_at(text)
        if cut is not None:
            self.stopped = True
            safe = cut
        else:
            safe = len(text) if final else len(text) - self._suspect(text)
        self._held = "" if self.stopped else text[safe:]
        self.emitted += safe
        return text[:safe]

    def _stop_at(self, text: str) -> int | None:
        """Where the stop string begins that is complete first; the longest, of those that end together."""
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _suspect(self, text: str) -> int:
        """Length of the longest ending of the text that begins a stop string."""
        longest = min(len(text), max((len(stop) for stop in self._stop), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
