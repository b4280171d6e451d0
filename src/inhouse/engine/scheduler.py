"""What fits: which sequences run in a step, and how many of their tokens.

Pure: no torch, no clock, no input or output; time is an argument, in seconds, and so is which adapters are in this
machine's memory. It owns the pages and the adapter slots, because whether there is room for a sequence is the same
question as whether it may run. Whose turn it is, is `engine.queue`'s matter.

A step first gives every running sequence that decodes its one token. What is left of its token budget goes to
prompts in the queue's order: those under way go on, waiting ones start. A prompt longer than what is left is read
in chunks. A sequence starts behind the pages that are known for its first tokens.

Who must give way:
- pages run out: the youngest, batch first; it waits at its old place and finds what is left of its pages later;
- no place for an urgent sequence: a batch one, the youngest first;
- no place for a project of which nothing runs: the youngest of the one with most, if that has more than one.
A sequence that finds no room all the same is passed over, but not for longer than the patience: then the others
wait with it, and what they give back is its. The adapters of a step stay within their share of what it reads, and
that too holds up nobody for longer than the patience.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from itertools import islice

from inhouse.engine import prefixes
from inhouse.engine.pages import Pages
from inhouse.engine.plan import Plan, Row
from inhouse.engine.queue import Lane, Queue, by_age, lane_of
from inhouse.engine.request import Request, Sequence
from inhouse.engine.slots import Slots
from inhouse.errors import Conflict, ContextLengthExceeded, InvalidRequest
from inhouse.schema import FinishReason

TOKEN_BUDGET = 512
"""Tokens a step reads: enough to fill the machine, few enough that a long prompt holds nobody up for long."""
PATIENCE_S = 2.0
"""How long others may overtake a sequence that finds no room."""
BATCH_PATIENCE_S = 30.0
"""How long batch may stand still behind interactive requests before one of its sequences counts as urgent."""
LOOK_AHEAD = 16
"""How many waiting sequences' adapters are asked for ahead of their turn."""
MOST_FAILURES = 16
"""How many waiting sequences may find no pages before a step stops looking for one that is small enough."""


@dataclass(slots=True)
class _Step:
    """A plan in the making."""

    now: float
    at_hand: Container[str] | None
    left: int
    """Tokens of the budget that are left."""
    counts: dict[Sequence, int] = field(default_factory=dict)
    drafts: dict[Sequence, tuple[int, ...]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    closed: set[Lane] = field(default_factory=set)
    """Whose waiting sequences find no place in this step."""
    failures: int = 0
    """How many found no pages."""


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
        batch_patience_s: float = BATCH_PATIENCE_S,
        base_digest: str = "",
        reuses_prefixes: bool = True,
        rewind_above: int | None = None,
        guessing: int = 0,
    ) -> None:
        """`guessing`: steps with at most so many decoding sequences guess ahead (see `engine.lookup`).
        `rewind_above`: a sequence that grows longer than this many tokens reads all of them again, because the
        model places a longer one's tokens otherwise; None where length does not matter."""
        self.pages = pages
        self.slots = slots
        self.max_running = max_running
        self.token_budget = max(
            token_budget, max_running
        )  # every decoding sequence has a place in every step
        self.patience_s = patience_s
        self.batch_patience_s = batch_patience_s
        self.base_digest = base_digest
        self.reuses_prefixes = reuses_prefixes
        """Off: only the choices of one request share their prompt's pages."""
        self.rewind_above = rewind_above
        self.guessing = guessing if rewind_above is None else 0
        self.preemptions = self.guessed = self.guessed_right = 0
        self.reused_tokens = 0
        """Tokens that sequences found computed when they started."""
        self._requests: dict[str, Request] = {}
        self._queue = Queue()
        self._running: dict[Sequence, None] = {}
        self._arrivals = 0
        self._batch_ran_at = 0.0

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs, or a kept adapter is yet to be loaded."""
        return bool(self._requests or self.slots.missing)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._queue)

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
        rows = sum(request.wants.values())
        if rows > self.slots.rows:
            raise InvalidRequest(
                f"The request's adapters have {rows} rank rows together; this engine has {self.slots.rows}. "
                "Ask without the adapter or without experts, or raise adapter_rows."
            )
        self._arrivals += 1
        request.order, request.arrived_at = self._arrivals, now
        if not any(other.priority == "batch" for other in self._requests.values()):
            self._batch_ran_at = now  # it has not stood still before it came
        self._requests[request.id] = request
        self._queue.enter(request.project, len(request.choices))
        for sequence in request.choices:
            self._queue.push(sequence)

    def plan(self, now: float, at_hand: Container[str] | None = None) -> Plan:
        """What to run now. What it reserves is held until `commit`, `finish` or `cancel`.

        at_hand  the adapters in this machine's memory, from where they may be loaded; None is all of them
        """
        decoding = sum(sequence.pending == 1 for sequence in self._running)
        step = _Step(now, at_hand, self.token_budget)
        self._promote_batch(now)
        before = self.preemptions
        for sequence in sorted(self._running, key=by_age):
            if sequence.pending == 1 and sequence in self._running:  # else preempted for another one
                self._go_on(sequence, step)
        if decoding <= self.guessing:
            self._guess(step)
        under_way = {sequence for sequence in self._running if sequence.pending > 1}
        if self.preemptions != before:  # whoever just gave way does not start again at once
            self._close(step)
        for sequence in self._queue.turns(under_way, passed_before=now - self.patience_s, closed=step.closed):
            if not step.left:
                break
            if sequence not in under_way:
                self._admit(sequence, step)
            elif sequence in self._running:
                self._go_on(sequence, step)
        return self._planned(step)

    def commit(self, plan: Plan, drawn: dict[Sequence, list[int]]) -> None:
        """Books a step that ran: tokens read, tokens drawn, and who is finished by that."""
        for row in plan.rows:
            sequence = row.sequence
            if sequence not in self._running:
                continue  # cancelled, or failed alone, while the step ran
            tokens = drawn[sequence] if row.samples else []
            right = max(len(tokens) - 1, 0)
            sequence.scored = max(sequence.scored, row.targets.stop, row.states.stop)
            sequence.tokens += tokens
            sequence.computed += row.count - len(row.drafts) + right
            sequence.lookup.learn(len(row.drafts), right)
            self.guessed += len(row.drafts)
            self.guessed_right += right
            self._publish(sequence)
            if tokens and (tokens[-1] in sequence.request.stop_ids or sequence.is_complete):
                self.finish(sequence, "stop")
            if not sequence.is_finished and not sequence.has_room and (row.samples or not sequence.pending):
                self.finish(sequence, "length")
            if row.samples and not sequence.is_finished and sequence.length - 1 == self.rewind_above:
                self._rewind(sequence)

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """Ends one choice; its pages are free from now on."""
        sequence.finish_reason = reason
        self._end(sequence)
        if sequence.request.is_finished:
            del self._requests[sequence.request.id]

    def cancel(self, request_id: str, *, keeps: bool = True) -> Request | None:
        """Ends a request without an answer, wherever it is; None when there is no such request (any more).

        keeps  False where it failed: what its pages hold is not to be trusted, and no other request starts with it
        """
        request = self._requests.pop(request_id, None)
        for sequence in request.choices if request else ():
            if not sequence.is_finished:
                self._end(sequence, keeps=keeps)
        return request

    def check_integrity(self) -> None:
        """Asserts that sequences, pages and slots account for each other."""
        self.pages.check_integrity()
        self.slots.check_integrity()
        self._queue.check_integrity()
        waiting = set(self._queue)
        assert not any(self.pages.table(s) for s in waiting), "a waiting sequence holds pages"
        assert self.slots.pins == sum(len(s.slots) for s in self._running), "pins differ from running users"
        assert all(len(s.slots) == len(s.request.keys) for s in self._running), (
            "a sequence runs without one of its adapters"
        )
        assert not any(s.slots for s in waiting), "a waiting sequence holds a slot"
        alive = {s for r in self._requests.values() for s in r.choices if not s.is_finished}
        assert alive == waiting | set(self._running), "a sequence is lost, or outlived its request"
        assert self._queue.projects == len({s.request.project for s in alive}), "a project is miscounted"
        if not self._running:
            assert self.pages.free == self.pages.count, "pages are held by nobody"
        for sequence in self._running:
            full = sequence.computed // self.pages.page_size
            assert sequence.indexed <= full, "a page is known before it is computed"
            for place, page in enumerate(self.pages.table(sequence)):
                key = self.pages.prefixes.key(page)
                assert key is None or (place < full and key == sequence.page_keys[place]), (
                    "a page is known for other tokens than it holds"
                )

    # ── who runs ──────────────────────────────────────────────────────────────────────────────────────────

    def _go_on(self, sequence: Sequence, step: _Step) -> None:
        """Gives a running sequence its next tokens, if pages can be had for them."""
        count = min(sequence.pending, step.left)
        if self._make_room(sequence, sequence.computed + count, step):
            self._give(sequence, count, step)

    def _guess(self, step: _Step) -> None:
        """Lets decoding sequences read ahead what may follow, once all have their token: in pages that they hold, or
        in blank ones where nobody waits and one is left for each that runs."""
        sparing = self.pages.count if len(self._queue) else len(self._running)
        for sequence in [sequence for sequence in step.counts if sequence.pending == 1]:
            room = min(sequence.request.limit - sequence.length - 1, step.left)
            forced = () if sequence.matcher is None else sequence.matcher.forced()
            drafts = sequence.lookup.guess(sequence.tokens, room, forced) if room > 0 else ()
            if drafts and self.pages.reserve_blank(sequence, sequence.length + len(drafts), sparing=sparing):
                step.drafts[sequence] = drafts
                self._give(sequence, 1 + len(drafts), step)

    def _admit(self, sequence: Sequence, step: _Step) -> None:
        """Starts a waiting sequence, or passes it over; past its patience nobody else starts in its place."""
        if self._awaits_first_choice(sequence) or not self._is_at_hand(sequence, step):
            return
        if len(self._running) >= self.max_running and next(self._yielders(sequence), None) is None:
            self._find_no_place(sequence, step)
            return
        is_overdue = (
            sequence.passed_over_at is not None and step.now - sequence.passed_over_at >= self.patience_s
        )
        if self._start(sequence, step, beyond=is_overdue):
            self._give(sequence, min(sequence.pending, step.left), step)
            return
        self._queue.pass_over(sequence, step.now)
        if is_overdue or step.failures == MOST_FAILURES:
            self._close(step)

    def _find_no_place(self, sequence: Sequence, step: _Step) -> None:
        """Closes its project's lane for this step; where nothing of it runs, all lanes of its class: nobody has a
        better claim."""
        mine, project = lane_of(sequence), sequence.request.project
        runs = any(other.request.project == project for other in self._running)
        step.closed |= {mine} if runs else {lane for lane in self._queue.lanes if lane[0] == mine[0]}

    def _close(self, step: _Step) -> None:
        """Lets no more sequences start in this step."""
        step.closed |= self._queue.lanes

    def _is_at_hand(self, sequence: Sequence, step: _Step) -> bool:
        """Whether the sequence's adapters are on the device or could be loaded now."""
        absent = (key for key in sequence.request.keys if self.slots.slot(key) is None)
        return step.at_hand is None or all(key in step.at_hand for key in absent)

    def _wanted(self, step: _Step) -> dict[str, None]:
        """Adapters, not on the device, that are kept there or are those of the sequences that are next."""
        turns = self._queue.turns((), passed_before=step.now - self.patience_s)
        keys = (key for sequence in islice(turns, LOOK_AHEAD) for key in sequence.request.keys)
        absent = (key for key in keys if self.slots.slot(key) is None)
        return dict.fromkeys([*self.slots.missing, *absent])

    def _give(self, sequence: Sequence, count: int, step: _Step) -> None:
        more = count - step.counts.get(sequence, 0)
        step.counts[sequence] = count
        step.left -= more
        self._queue.charge(sequence, more)

    def _planned(self, step: _Step) -> Plan:
        if any(not sequence.is_urgent for sequence in step.counts):
            self._batch_ran_at = step.now
        rows = sorted(step.counts, key=lambda sequence: sequence.slots)
        step.loads += self.slots.bring(step.at_hand)
        found = [(key, self.slots.slot(key)) for key in dict.fromkeys(step.loads)]
        return Plan(
            tuple(self._row(sequence, step) for sequence in rows),
            tuple((key, slot) for key, slot in found if slot is not None),  # else put out again in this plan
            self.slots.take_evicted(),
            tuple(self._wanted(step)),
        )

    def _row(self, sequence: Sequence, step: _Step) -> Row:
        count, drafts = step.counts[sequence], step.drafts.get(sequence, ())
        samples = count - len(drafts) == sequence.pending and sequence.has_room
        return Row(sequence, sequence.computed, count, samples, drafts)

    # ── starting ──────────────────────────────────────────────────────────────────────────────────────────

    def _awaits_first_choice(self, sequence: Sequence) -> bool:
        """Whether the request's first choice is just now reading the prompt that this one can share."""
        first = sequence.request.choices[0]
        if sequence is first or sequence.request.reads_whole:
            return False
        return first in self._running and first.computed < sequence.prompt_length

    def _start(self, sequence: Sequence, step: _Step, *, beyond: bool) -> bool:
        """Takes a place, pages for all the sequence's tokens and slots for its adapter and expert, or nothing."""
        request = sequence.request
        if not self.slots.has_room(request.wants, beyond=beyond):
            return False
        found = self._take_pages(sequence)
        if found is None or len(self._running) >= self.max_running:
            short = 0 if found is not None else self.pages.needed(sequence.length) - self.pages.free
            yielding = self._who_gives_way(sequence, short)
            if yielding is None:
                self._give_back(sequence)
                step.failures += 1
                return False
            for victim in yielding:
                self._preempt(victim, step)
            found = self._take_pages(sequence) if found is None else found
            assert found is not None, "pages were counted, and then were not there"
        # Beyond the share, for that was decided above: who gave way may have let go of the very same adapter.
        places = self.slots.acquire_all(request.wants, beyond=True)
        assert places is not None, "room in the slots was counted, and then was not there"
        step.loads += [key for key, is_new in places.items() if is_new]
        sequence.slots = tuple(slot for key in request.keys if (slot := self.slots.slot(key)) is not None)
        self._queue.remove(sequence)
        self._running[sequence] = None
        self.reused_tokens += found
        if sequence.index == 0 and request.cached_tokens is None:
            request.cached_tokens = found
        return True

    def _take_pages(self, sequence: Sequence) -> int | None:
        """Puts the sequence behind the tokens whose pages are known, and reserves the rest; None where that fails.

        Returns how many tokens were known. The last one is always read, for its logits.
        """
        if not sequence.request.reads_whole:
            keys = self._page_keys(sequence, (sequence.length - 1) // self.pages.page_size)
            sequence.computed = self.pages.resume(sequence, keys)
            sequence.indexed = len(self.pages.table(sequence))
        if not self.pages.reserve(sequence, sequence.length):
            self._give_back(sequence)
            return None
        return sequence.computed

    def _give_back(self, sequence: Sequence, *, keeps: bool = True) -> None:
        self.pages.release(sequence, keeps=keeps)
        sequence.computed = sequence.indexed = 0

    def _publish(self, sequence: Sequence) -> None:
        """Makes pages known that were filled by the step."""
        full, known = sequence.computed // self.pages.page_size, sequence.indexed
        if full > known:
            self.pages.publish(sequence, known, self._page_keys(sequence, full)[known:])
            sequence.indexed = full

    def _page_keys(self, sequence: Sequence, count: int) -> list[bytes]:
        """Keys of the sequence's first pages."""
        request, keys = sequence.request, sequence.page_keys
        own = None if self.reuses_prefixes else request.id
        is_long = self.rewind_above is not None and sequence.length > self.rewind_above
        base = f"{self.base_digest} long" if is_long else self.base_digest
        root = prefixes.root_key(base, request.project, request.adapter, request.expert, own)
        prefixes.extend(keys, root, sequence.tokens, self.pages.page_size, count)
        return keys[:count]

    # ── giving way ────────────────────────────────────────────────────────────────────────────────────────

    def _who_gives_way(self, sequence: Sequence, short: int) -> list[Sequence] | None:
        """Who is to be preempted so that there is a place and `short` pages more; None where that would not do."""
        chosen: list[Sequence] = []
        for victim in self._yielders(sequence):
            chosen.append(victim)
            short -= self.pages.sole(victim)
            if len(self._running) - len(chosen) < self.max_running and short <= 0:
                return chosen
        return None

    def _yielders(self, sequence: Sequence) -> Iterator[Sequence]:
        """Running ones that may be preempted for it, in this order: batch where it is urgent, the youngest first;
        then, where nothing of its project runs, the youngest of the project with most."""
        running = sorted(self._running, key=by_age)
        if sequence.is_urgent:
            yield from (other for other in reversed(running) if not other.is_urgent)
            running = [other for other in running if other.is_urgent]
        held = Counter(other.request.project for other in running)
        if held[sequence.request.project]:
            return
        lanes: dict[str, list[Sequence]] = {}
        for other in running:
            if other.is_urgent == sequence.is_urgent:
                lanes.setdefault(other.request.project, []).append(other)
        while lanes:
            project = max(lanes, key=lambda name: (held[name], name))
            if held[project] == 1:
                return
            yield lanes[project].pop()
            held[project] -= 1
            if not lanes[project]:
                del lanes[project]

    def _make_room(self, sequence: Sequence, tokens: int, step: _Step) -> bool:
        """Reserves pages for a running sequence, preempting as long as there are too few; False when that was
        itself. Batch gives way first, then the youngest; the last of a project is spared while another has more."""
        while not self.pages.reserve(sequence, tokens):
            held = Counter(other.request.project for other in self._running)
            victim = max(self._running, key=lambda s: (not s.is_urgent, held[s.request.project] > 1, s.age))
            self._preempt(victim, step)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence, step: _Step) -> None:
        count = step.counts.pop(sequence, 0)
        step.drafts.pop(sequence, None)
        step.left += count
        self._queue.charge(sequence, -count)
        self._stop(sequence)
        self._queue.push(sequence)
        self.preemptions += 1

    def _rewind(self, sequence: Sequence) -> None:
        """Back to the queue; what it reads again stands under other keys."""
        self._stop(sequence)
        sequence.page_keys.clear()
        self._queue.push(sequence)
        self.preemptions += 1

    def _stop(self, sequence: Sequence, *, keeps: bool = True) -> None:
        """Takes all that a running sequence holds."""
        del self._running[sequence]
        self._give_back(sequence, keeps=keeps)
        for key in sequence.request.keys:
            self.slots.release(key)
        sequence.slots = ()

    def _end(self, sequence: Sequence, *, keeps: bool = True) -> None:
        """Takes a sequence out, wherever it is."""
        if sequence in self._running:
            self._stop(sequence, keeps=keeps)
        else:
            self._queue.remove(sequence)
        self._queue.leave(sequence.request.project)

    def _promote_batch(self, now: float) -> None:
        """Where batch has stood still for its patience, makes its next sequence an urgent one."""
        running = [sequence for sequence in self._running if not sequence.is_urgent]
        if not running and not self._queue.has_batch:
            self._batch_ran_at = now
        elif now - self._batch_ran_at >= self.batch_patience_s:
            self._batch_ran_at = now
            if running:
                min(running, key=by_age).is_promoted = True
            else:
                self._queue.promote(next(self._queue.turns((), passed_before=now, classes=(False,))))
