"""What one step of the engine does: which tokens of which sequences it reads, and what it loads before. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.engine.request import Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """A piece of one sequence in a step: `count` tokens from place `start` on."""

    sequence: Sequence
    start: int
    count: int
    samples: bool
    """Whether the next token is drawn behind it."""
    drafts: tuple[int, ...] = ()
    """Guesses at what follows, the last of the `count`; a token is drawn behind each that is right."""

    @property
    def tokens(self) -> list[int]:
        """What is read."""
        return [*self.sequence.tokens[self.start : self.start + self.count - len(self.drafts)], *self.drafts]

    @property
    def targets(self) -> range:
        """Places of the prompt whose log-probability this piece gives: each is read one token earlier."""
        sequence = self.sequence
        if not sequence.request.scores_prompt:
            return range(0)
        first = max(self.start + 1, sequence.scored)
        return range(first, max(first, min(self.start + self.count + 1, sequence.prompt_length)))

    @property
    def states(self) -> range:
        """Places whose final states this piece gives, where an embedding is wanted: each place once, also when it is
        read again."""
        stop = self.start + self.count if self.sequence.request.embeds else 0
        return range(min(max(self.start, self.sequence.scored), stop), stop)


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: its rows, those of one adapter side by side, and what changes in the slots before it."""

    rows: tuple[Row, ...]
    loads: tuple[tuple[str, int], ...] = ()
    """(key, slot)"""
    evicted: tuple[int, ...] = ()
    """Slots to empty before the loads."""
    wanted: tuple[str, ...] = ()
    """Adapters that are kept on the device, or that waiting sequences will need, to be brought into this machine's
    memory, the soonest first."""
