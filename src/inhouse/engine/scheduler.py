"""Who goes next: which sequences run in a step, and how many of their tokens.

Pure: no torch, no clock, no input or output; time is an argument, in seconds. It owns the pages and the adapter
slots, because whether there is room for a sequence is the same question as whether it may run.

A step first gives every running sequence that decodes its one token, then goes on with prompts under way, then
admits waiting sequences in the order they came. A prompt longer than what is left of the step's token budget is
read in chunks. When pages run out, the youngest sequence is preempted: it gives its pages back, waits at its old
place in the queue and reads its tokens again later.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from operator import attrgetter

from inhouse.engine.pages import Pages
from inhouse.engine.request import Request, Sequence
from inhouse.engine.slots import Slots
from inhouse.errors import Conflict, ContextLengthExceeded, InvalidRequest
from inhouse.schema import FinishReason

TOKEN_BUDGET = 512
"""Tokens a step reads: enough to fill the machine, few enough that a long prompt holds nobody up for long."""
PATIENCE_S = 2.0
"""How long smaller requests may overtake one that finds no room."""

by_age = attrgetter("age")


@dataclass(frozen=True, slots=True)
class Row:
    """A piece of one sequence in a step: `count` tokens from place `start` on."""

    sequence: Sequence
    start: int
    count: int
    samples: bool
    """Whether the next token is drawn behind it."""

    @property
    def targets(self) -> range:
        """Places of the prompt whose log-probability this piece gives: each is read one token earlier."""
        sequence = self.sequence
        if not sequence.request.scores_prompt:
            return range(0)
        first = max(self.start + 1, sequence.scored)
        return range(first, max(first, min(self.start + self.count + 1, sequence.prompt_length)))


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: its rows, and the adapters and experts to put into slots before it."""

    rows: tuple[Row, ...]
    loads: tuple[tuple[str, int], ...] = ()
    """(key, slot)"""


class Scheduler:
    """The queues of waiting and running sequences."""

    def __init__(
        self,
        pages: Pages,
        slots: Slots,
        *,
        max_running: int,
        token_budget: int = TOKEN_BUDGET,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.pages = pages
        self.slots = slots
        self.max_running = max_running
        self.token_budget = max(
            token_budget, max_running
        )  # every decoding sequence has a place in every step
        self.patience_s = patience_s
        self.preemptions = 0
        self._requests: dict[str, Request] = {}
        self._waiting: list[Sequence] = []  # in order of age
        self._running: dict[Sequence, None] = {}
        self._arrivals = 0

    @property
    def has_work(self) -> bool:
        return bool(self._requests)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running_requests(self) -> int:
        """Requests of which at least one choice runs."""
        return len({sequence.request for sequence in self._running})

    def add(self, request: Request, now: float) -> None:
        """Queues all choices. Raises ContextLengthExceeded for what the whole cache could not hold, and
        InvalidRequest for what all slots together could not."""
        if request.id in self._requests:
            raise Conflict(f"A request {request.id} is already running.")
        if request.limit > self.pages.capacity:
            asked = request.limit - len(request.prompt)
            raise ContextLengthExceeded.of(limit=self.pages.capacity, prompt=len(request.prompt), asked=asked)
        if len(request.keys) > self.slots.count:
            raise InvalidRequest(
                f"The request needs {len(request.keys)} adapter slots; this engine has {self.slots.count}. "
                "Ask without the adapter, or without experts."
            )
        self._arrivals += 1
        request.order, request.arrived_at = self._arrivals, now
        self._requests[request.id] = request
        self._waiting.extend(request.choices)

    def plan(self, now: float) -> Plan:
        """What to run now. What it reserves is held until `commit`, `finish` or `cancel`."""
        counts: dict[Sequence, int] = {}
        before = self.preemptions
        for sequence in sorted(self._running, key=lambda s: (s.pending > 1, s.age)):
            if sequence not in self._running:
                continue  # preempted for an older one
            count = min(sequence.pending, self.token_budget - sum(counts.values()))
            if count and self._make_room(sequence, sequence.computed + count, counts):
                counts[sequence] = count
        loads = self._admit(counts, now) if self.preemptions == before else {}
        return Plan(tuple(self._row(s, count) for s, count in counts.items()), tuple(loads.items()))

    def commit(self, plan: Plan, drawn: dict[Sequence, int]) -> None:
        """Books a step that ran: tokens read, tokens drawn, and who is finished by that."""
        for row in plan.rows:
            sequence = row.sequence
            if sequence not in self._running:
                continue  # cancelled, or failed alone, while the step ran
            sequence.scored = max(sequence.scored, row.targets.stop)
            sequence.computed += row.count
            if row.samples:
                sequence.tokens.append(drawn[sequence])
                if drawn[sequence] in sequence.request.stop_ids or sequence.is_complete:
                    self.finish(sequence, "stop")
            if not sequence.is_finished and not sequence.has_room and (row.samples or not sequence.pending):
                self.finish(sequence, "length")

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """Ends one choice; its pages are free from now on."""
        sequence.finish_reason = reason
        self._remove(sequence)
        if sequence.request.is_finished:
            del self._requests[sequence.request.id]

    def cancel(self, request_id: str) -> Request | None:
        """Ends a request without an answer, wherever it is; None when there is no such request (any more)."""
        request = self._requests.pop(request_id, None)
        for sequence in request.choices if request else ():
            if not sequence.is_finished:
                self._remove(sequence)
        return request

    def check_integrity(self) -> None:
        """Asserts that sequences, pages and slots account for each other."""
        self.pages.check_integrity()
        self.slots.check_integrity()
        assert self._waiting == sorted(self._waiting, key=by_age), "the queue is out of order"
        assert not any(self.pages.table(s) for s in self._waiting), "a waiting sequence holds pages"
        assert self.slots.pins == sum(len(s.slots) for s in self._running), "pins differ from running users"
        assert all(len(s.slots) == len(s.request.keys) for s in self._running), (
            "a sequence runs without one of its adapters"
        )
        assert not any(s.slots for s in self._waiting), "a waiting sequence holds a slot"
        alive = {s for r in self._requests.values() for s in r.choices if not s.is_finished}
        assert alive == set(self._waiting) | set(self._running), "a sequence is lost, or outlived its request"
        if not self._running:
            assert self.pages.free == self.pages.count, "pages are held by nobody"

    def _row(self, sequence: Sequence, count: int) -> Row:
        return Row(sequence, sequence.computed, count, count == sequence.pending and sequence.has_room)

    def _make_room(self, sequence: Sequence, tokens: int, counts: dict[Sequence, int]) -> bool:
        """Reserves pages, preempting the youngest as long as there are too few; False when that was itself."""
        while not self.pages.reserve(sequence, tokens):
            victim = max(self._running, key=by_age)
            counts.pop(victim, None)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._remove(sequence)
        sequence.computed = 0
        self.preemptions += 1
        insort(self._waiting, sequence, key=by_age)

    def _admit(self, counts: dict[Sequence, int], now: float) -> dict[str, int]:
        """Starts waiting sequences, first come first served. Returns the adapters to load, with their slots.

        One that finds no pages or no slot is passed over, but not for longer than the patience: then the others
        wait with it, and what they give back is its.
        """
        loads: dict[str, int] = {}
        for sequence in list(self._waiting):
            budget = self.token_budget - sum(counts.values())
            if not budget or len(self._running) >= self.max_running:
                break
            if self._awaits_first_choice(sequence):
                continue
            if self._start(sequence, loads):
                counts[sequence] = min(sequence.pending, budget)
            elif now - sequence.request.arrived_at >= self.patience_s:
                break
        return loads

    def _awaits_first_choice(self, sequence: Sequence) -> bool:
        """Whether the request's first choice is just now reading the prompt that this one can share."""
        first = sequence.request.choices[0]
        if sequence is first or sequence.request.scores_prompt:
            return False
        return first in self._running and first.computed < sequence.prompt_length

    def _start(self, sequence: Sequence, loads: dict[str, int]) -> bool:
        """Takes pages for all the sequence's tokens and slots for its adapter and expert, or nothing."""
        request = sequence.request
        first = request.choices[0]
        if sequence is not first and not request.scores_prompt and first in self._running:
            # The last token of the prompt is read again by each choice: its own first draw needs the logits.
            sequence.computed = self.pages.share(first, sequence, sequence.prompt_length - 1)
        if not self.pages.reserve(sequence, sequence.length):
            self._give_back(sequence)
            return False
        places = self.slots.acquire_all(request.keys)
        if places is None:
            self._give_back(sequence)
            return False
        sequence.slots = tuple(places[key][0] for key in request.keys)
        loads.update({key: slot for key, (slot, is_new) in places.items() if is_new})
        self._waiting.remove(sequence)
        self._running[sequence] = None
        return True

    def _give_back(self, sequence: Sequence) -> None:
        self.pages.release(sequence)
        sequence.computed = 0

    def _remove(self, sequence: Sequence) -> None:
        """Takes a sequence out of its queue, with all it holds."""
        if sequence in self._running:
            del self._running[sequence]
            self.pages.release(sequence)
            for key in sequence.request.keys:
                self.slots.release(key)
            sequence.slots = ()
        else:
            self._waiting.remove(sequence)
