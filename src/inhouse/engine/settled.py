"""A reply that was settled without the model, as the tokens it counts for and the text they give.

It knows a tokenizer, stop strings and how many tokens there is room for; why the reply was settled is the
memory's matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.schema import FinishReason
from inhouse.text.stream import TextStream
from inhouse.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Settled:
    """What leaves: a piece of text for each token, and why it ends. An end token is counted, and has no text."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    finish_reason: FinishReason
    has_end: bool
    """Whether an end token follows: not behind a stop string, nor where there is no room for one."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def settled(text: str, tokenizer: Tokenizer, *, room: int, stop: tuple[str, ...]) -> Settled:
    """The text cut as a model's reply would be: behind `room` tokens, or before a stop string."""
    ids = tokenizer.encode(text, special=False)
    stream = TextStream(_Pieces(text, ids, tokenizer, room), stop)
    pieces: list[str] = []
    for place in range(min(len(ids), room)):
        pieces.append(stream.push(place))
        if stream.stopped:
            break
    if pieces and not stream.stopped:
        pieces[-1] += stream.finish()
    ends = stream.stopped or len(ids) < room
    return Settled(
        tuple(ids[: len(pieces)]),
        tuple(pieces),
        "stop" if ends else "length",
        has_end=ends and not stream.stopped,
    )


class _Pieces:
    """The bytes of each token of a text, by the token's place; joined they are the text itself.

    A tokenizer may put a space in front, which goes. One that changes what it reads cannot part the text: then all
    that there is room for, by its length, stands with the first token.
    """

    def __init__(self, text: str, ids: list[int], tokenizer: Tokenizer, room: int) -> None:
        self._bytes = [tokenizer.token_bytes(token) for token in ids]
        data, written = b"".join(self._bytes), text.encode()
        if data == b" " + written and self._bytes[0].startswith(b" "):
            self._bytes[0] = self._bytes[0][1:]
        elif data != written and ids:
            fits = text if len(ids) <= room else text[: len(text) * room // len(ids)]
            self._bytes = [fits.encode()] + [b""] * (len(ids) - 1)

    def token_bytes(self, place: int, /) -> bytes:
        return self._bytes[place]
