"""Guesses at what comes next: what followed the last few tokens when they stood earlier in the same sequence.

Pure: tokens and counts. A guess costs a little when it is wrong and saves steps when it is right, as when a reply
repeats its prompt: extraction, rewriting, code. So how far a sequence guesses ahead follows how its guesses fared.
What a grammar forces is a guess as well: a model may cut the same text into other tokens.

Source: Saxena, "Prompt Lookup Decoding", 2023; Leviathan et al., "Fast Inference from Transformers via Speculative
Decoding", 2023, for why the tokens stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LONGEST, SHORTEST = 4, 2
"""Tokens that must have stood there before. One alone guesses wrong too often."""
FIRST_WIDTH, WIDEST = 3, 8
"""Tokens guessed at first, and at most: beyond, a step on a processor costs as much as it saves."""
FARTHEST = 8192
"""Tokens back that are looked at."""
PIECE = 512
"""Tokens indexed in one step, which everybody shares: some 0.7 ms."""
REST = 24
"""Steps without guesses after guesses that were all wrong."""


@dataclass(slots=True)
class Lookup:
    """One sequence's guesses."""

    width: int = FIRST_WIDTH
    rest: int = 0
    _read: int = 0
    _after: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Tokens in a row → the place behind their latest occurrence that has something behind it."""

    def guess(self, tokens: Sequence[int], most: int, forced: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Up to `most` tokens that may follow; none while it rests or knows nothing. forced: those that a grammar
        leaves no other text for, which are tried even then."""
        self._note(tokens)
        if forced:
            return forced[: min(self.width, most)]
        if self.rest:
            self.rest -= 1
            return ()
        for size in range(LONGEST, SHORTEST - 1, -1):
            place = self._after.get(tuple(tokens[-size:]))
            if place is not None and len(tokens) >= size:
                return _continued(tokens, place, min(self.width, most))
        return ()

    def learn(self, guessed: int, right: int) -> None:
        """How a step's guesses fared."""
        if not guessed:
            return
        if right == guessed:
            self.width = min(2 * self.width, WIDEST)
        elif right:
            self.width = max(right, 1)
        elif self.width > 1:
            self.width //= 2
        else:
            self.width, self.rest = 1, REST

    def _note(self, tokens: Sequence[int]) -> None:
        """Indexes what has something behind it by now, every token but the last; of a long text a piece at a time."""
        self._read = max(self._read, len(tokens) - FARTHEST, 1)
        until = min(len(tokens), self._read + PIECE)
        for end in range(self._read, until):
            for size in range(SHORTEST, min(LONGEST, end) + 1):
                self._after[tuple(tokens[end - size : end])] = end
        self._read = until


def _continued(tokens: Sequence[int], place: int, count: int) -> tuple[int, ...]:
    """The tokens from a place on; past the end the guess itself goes on, as a run that repeats itself does."""
    found = list(tokens[place : place + count])
    while len(found) < count:
        found.append(found[place + len(found) - len(tokens)])
    return tuple(found)
