"""Who is next: waiting sequences by class and project, and what each project has been served.

Pure: no torch, no clock; it knows no pages and no adapters, so not whether there is room.

Interactive requests go before batch. Within a class it is the turn of the project that was served the fewest
tokens, and within a project of the request that came first: a thousand requests of one project delay another's
first by a step. A project that comes back from a pause starts level with the least served one: nobody saves up.
A sequence that was passed over for longer than patience allows goes before all others of its class.

Source of the idea: Demers, Keshav, Shenker, "Analysis and simulation of a fair queueing algorithm", 1989; with tokens
for its cost: Sheng et al., "Fairness in Serving Large Language Models", 2023.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator
from operator import attrgetter

from inhouse.engine.request import Sequence

by_age = attrgetter("age")

Lane = tuple[bool, str]
"""Whether its sequences are urgent, and their project."""
CLASSES = (True, False)
"""Urgent, then batch."""


class Queue:
    """The waiting sequences. `charge` between two turns decides whose the next one is."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, list[Sequence]] = {}  # in order of age; no lane is empty
        self._passed: dict[Sequence, float] = {}  # in the order in which they were passed over
        self._served: dict[
            str, float
        ] = {}  # tokens, for projects seen since the engine last had nothing to do
        self._alive: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def __iter__(self) -> Iterator[Sequence]:
        return (sequence for lane in self._lanes.values() for sequence in lane)

    @property
    def lanes(self) -> set[Lane]:
        """Those in which somebody waits."""
        return set(self._lanes)

    @property
    def projects(self) -> int:
        """Projects with a sequence that waits or runs."""
        return len(self._alive)

    @property
    def has_batch(self) -> bool:
        """Whether a sequence waits that is not urgent."""
        return any(not is_urgent for is_urgent, _ in self._lanes)

    def enter(self, project: str, sequences: int) -> None:
        """Counts sequences of a project that from now on wait or run."""
        if project not in self._alive:
            least = min((self._served[other] for other in self._alive), default=0.0)
            self._served[project] = max(self._served.get(project, 0.0), least)
        self._alive[project] += sequences

    def leave(self, project: str) -> None:
        """One of them has ended. What projects were served is forgotten when nobody is left to compare."""
        self._alive[project] -= 1
        if not self._alive[project]:
            del self._alive[project]
        if not self._alive:
            self._served.clear()

    def charge(self, sequence: Sequence, tokens: int) -> None:
        """Books tokens of a step as served to the sequence's project."""
        self._served[sequence.request.project] += tokens

    def push(self, sequence: Sequence) -> None:
        insort(self._lanes.setdefault(lane_of(sequence), []), sequence, key=by_age)

    def remove(self, sequence: Sequence) -> None:
        lane = self._lanes[lane_of(sequence)]
        lane.remove(sequence)
        if not lane:
            del self._lanes[lane_of(sequence)]
        self._passed.pop(sequence, None)
        sequence.passed_over_at = None

    def pass_over(self, sequence: Sequence, now: float) -> None:
        """Its turn came, and there was no room for it."""
        if sequence.passed_over_at is None:
            sequence.passed_over_at = self._passed[sequence] = now

    def promote(self, sequence: Sequence) -> None:
        """Makes a waiting batch sequence an urgent one."""
        self.remove(sequence)
        sequence.is_promoted = True
        self.push(sequence)

    def turns(
        self,
        under_way: Iterable[Sequence],
        *,
        passed_before: float,
        closed: Container[Lane] = (),
        classes: tuple[bool, ...] = CLASSES,
    ) -> Iterator[Sequence]:
        """Whose turn it is, one after the other: waiting sequences, and those whose prompts are under way.

        passed_before  who was passed over at this time or earlier goes first
        closed         lanes whose waiting sequences are left out; it may grow while turns are taken
        """
        for is_urgent in classes:
            first = {s: t for s, t in self._passed.items() if s.is_urgent == is_urgent and t <= passed_before}
            yield from (s for s in first if lane_of(s) not in closed)
            lanes: dict[Lane, deque[Sequence]] = {}
            going = {s for s in under_way if s.is_urgent == is_urgent}
            for sequence in sorted(going, key=by_age):
                lanes.setdefault(lane_of(sequence), deque()).append(sequence)
            for name, lane in self._lanes.items():
                if name[0] == is_urgent:
                    lanes.setdefault(name, deque()).extend(lane)
            while lanes:
                name = min(lanes, key=lambda name: (self._served[name[1]], lanes[name][0].age))
                sequence = lanes[name].popleft()
                is_closed = name in closed and sequence not in going
                if is_closed or not lanes[name]:
                    del lanes[name]
                if not is_closed and sequence not in first:
                    yield sequence

    def check_integrity(self) -> None:
        """Asserts that lanes are in order and hold whom they say."""
        for lane in self._lanes.values():
            assert lane == sorted(lane, key=by_age), "the queue is out of order"
        for name, lane in self._lanes.items():
            assert lane and all(lane_of(s) == name for s in lane), "a lane is empty, or holds a stranger"
        waiting = set(self)
        assert self._passed.keys() <= waiting, "a sequence that does not wait is passed over"
        assert all(s.passed_over_at == self._passed.get(s) for s in waiting), "two times of one passing over"


def lane_of(sequence: Sequence) -> Lane:
    return sequence.is_urgent, sequence.request.project
