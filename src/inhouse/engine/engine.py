"""The engine: one base, any number of its adapters, many requests at once.

A request's walk:
1. `Intake.prepare` turns text into tokens and refuses what cannot be served (any thread);
2. `add` queues it;
3. `Scheduler.plan` gives it pages and an adapter slot and says which of its tokens run in this step;
4. `batch.build` lays the plan out as tensors;
5. `Runner.run` computes logits;
6. `sampler.draw` chooses the next token;
7. `Scheduler.commit` books it, and frees the pages of what is finished;
8. `Voice` makes text of it, which leaves as a frame.

It knows no sockets and no threads: all but `intake` and `stats` belongs to the thread that steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from inhouse.engine import batch as batches
from inhouse.engine import sampler
from inhouse.engine.arena import Factors
from inhouse.engine.faults import around_request
from inhouse.engine.intake import Intake
from inhouse.engine.library import AtHand
from inhouse.engine.plan import Plan, Row
from inhouse.engine.request import Request, Sequence
from inhouse.engine.runner import Output, Runner
from inhouse.engine.sampler import Draw, Glance
from inhouse.engine.scheduler import Scheduler
from inhouse.engine.voice import Voice
from inhouse.schema import Delta, EngineDone, EngineFault, EngineFrame, Usage

log = logging.getLogger(__name__)

ARRIVAL_S = 0.02
"""How long a step with nothing to run waits for an adapter from disk, before commands are looked at again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A frame, and the request it belongs to. A request's last one is `done` or `fault`."""

    request_id: str
    frame: EngineFrame

    @property
    def is_last(self) -> bool:
        return self.frame.delta is None


class Engine:
    """Requests go in by `add`; each `step` moves all running ones on by a token and returns what is new."""

    def __init__(
        self,
        intake: Intake,
        scheduler: Scheduler,
        runner: Runner,
        *,
        base_digest: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.intake = intake
        self.scheduler = scheduler
        self.runner = runner
        self.base_digest = base_digest
        self._numbers: dict[str, float] = {}  # replaced whole, so that another thread may read it
        self._clock = clock
        self._voices: dict[Sequence, Voice] = {}
        self._idle_since = clock()
        self._steps = self._loads = self._prompt_tokens = self._generated_tokens = self._requests = (
            self._faults
        ) = 0
        self._note()

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    @property
    def stats(self) -> dict[str, float]:
        """Numbers as of the last change, and seconds since the last request ended (0 while one runs). Any thread
        may ask."""
        return {**self._numbers, "idle_s": 0.0 if self.has_work else self._clock() - self._idle_since}

    def add(self, request: Request) -> list[Reply]:
        """Queues a request. Its first replies, where some need no model. Raises InhouseError."""
        now = self._clock()
        voices = {sequence: self.intake.voice(sequence) for sequence in request.choices}
        deltas: list[Delta] = []
        for voice in voices.values():
            if voice.owes_echo:
                deltas.append(voice.echo())
            elif not request.needs_model:
                deltas += voice.recite()
        replies = [Reply(request.id, EngineFrame(delta=delta)) for delta in deltas]
        if request.needs_model:
            self.scheduler.add(request, now)
            self._voices |= voices
        else:
            replies.append(self._done(request))
        self._requests += 1
        self._prompt_tokens += len(request.prompt)
        self._note()
        return replies

    def cancel(self, request_id: str) -> None:
        """Forgets a request; its pages are free at once. Unknown ones are no error: it may just have ended."""
        request = self.scheduler.cancel(request_id)
        if request is not None:
            self._forget(request)
            self._note()

    def keep(self, wants: Mapping[str, int]) -> None:
        """These adapters stay on the device from now on, used or not, and no others do. wants: key → rank rows; all
        together at most `most_kept`."""
        self.scheduler.slots.keep(wants)
        self._note()

    @property
    def most_kept(self) -> int:
        """Rank rows that kept adapters may take."""
        return self.scheduler.slots.most_kept

    def step(self) -> list[Reply]:
        """Runs every planned row through the model once."""
        library = self.runner.library
        at_hand = library.at_hand()
        plan, replies = self._loaded(self.scheduler.plan(self._clock(), at_hand), at_hand)
        library.touch(key for key, _ in plan.loads)
        library.fetch(plan.wanted)
        if not plan.rows and plan.wanted:
            library.wait(ARRIVAL_S)
        if plan.rows:
            batch = batches.build(plan, self.scheduler.pages, self.runner.cache)
            output = self.runner.run(batch)
            self._pool(batch, output, replies)
            draws = self._draw(batch, output, replies)
            self.scheduler.commit(plan, {s: [draw.token for draw in own] for s, own in draws.items()})
            self._deliver(plan, batch, output, draws, replies)
        self._steps += 1
        self._note()
        return replies

    def _loaded(self, plan: Plan, at_hand: AtHand) -> tuple[Plan, list[Reply]]:
        """Puts the plan's new adapters into their slots, out of what was at hand when it was made. Where one fails, its
        requests fail, and only they."""
        replies: list[Reply] = []
        rows = plan.rows
        for slot in plan.evicted:
            self.runner.empty(slot)
        for key, slot in plan.loads:
            found = at_hand[key]
            fault = found if isinstance(found, EngineFault) else self._loading(key, slot, found)
            if fault is None:
                self._loads += 1
                continue
            for request in {row.sequence.request for row in rows if key in row.sequence.request.keys}:
                replies.append(self._fail(request, fault))
            rows = tuple(row for row in rows if key not in row.sequence.request.keys)
            self.scheduler.slots.forget(key)
            log.warning("adapter %s could not be loaded: %s", key, fault.message)
        return replace(plan, rows=rows), replies

    def _loading(self, key: str, slot: int, factors: Factors) -> EngineFault | None:
        return around_request(key, partial(self.runner.load, slot, factors))

    def _pool(self, batch: batches.Batch, output: Output, replies: list[Reply]) -> None:
        """Adds the step's states to the embeddings they are for. A request whose states cannot be added fails, before
        its pages are known to others."""
        for row, part in zip(batch.pooling, output.parts, strict=True):
            request = row.sequence.request
            fault = around_request(request.id, partial(self._voices[row.sequence].pool, part))
            if isinstance(fault, EngineFault):
                replies.append(self._fail(request, fault))

    def _draw(self, batch: batches.Batch, output: Output, replies: list[Reply]) -> dict[Sequence, list[Draw]]:
        """Each sequence's next token, and one more behind each guess that was right."""
        draws: dict[Sequence, list[Draw]] = {}
        masks = _masks(row.sequence for row in batch.drawing)
        glances = sampler.glance(output.logits)
        at = 0
        while at < len(batch.drawing):
            row = batch.drawing[at]
            mine = slice(at, at := at + 1 + len(row.drafts))
            sequence = row.sequence
            if sequence not in self._voices:
                continue  # another choice of the same request failed just now
            mask = masks.get(sequence)
            drawn: list[Draw] | EngineFault | None = mask if isinstance(mask, EngineFault) else None
            if not isinstance(mask, EngineFault):
                draw = partial(_drawn, row, output.logits[mine], glances[mine], mask)
                drawn = around_request(sequence.request.id, draw)
            if isinstance(drawn, EngineFault):
                replies.append(self._fail(sequence.request, drawn))
                draws = {s: d for s, d in draws.items() if s.request is not sequence.request}
            elif drawn is not None:
                draws[sequence] = drawn
        return draws

    def _deliver(
        self,
        plan: Plan,
        batch: batches.Batch,
        output: Output,
        draws: dict[Sequence, list[Draw]],
        replies: list[Reply],
    ) -> None:
        """Gives every row's news to its voice, and ends what is finished."""
        for (sequence, _), score in zip(batch.scoring, output.scores, strict=True):
            if sequence in self._voices:
                self._voices[sequence].hear(score)
        self._generated_tokens += sum(map(len, draws.values()))
        for row in plan.rows:
            sequence = row.sequence
            if sequence not in self._voices:
                continue
            news = around_request(sequence.request.id, partial(self._news, sequence, draws.get(sequence, [])))
            if isinstance(news, EngineFault):
                replies.append(self._fail(sequence.request, news))
                continue
            replies += [Reply(sequence.request.id, EngineFrame(delta=delta)) for delta in news]
        for request in dict.fromkeys(row.sequence.request for row in plan.rows):
            if request.is_finished and request.choices[0] in self._voices:
                replies.append(self._done(request))

    def _news(self, sequence: Sequence, draws: list[Draw]) -> list[Delta]:
        voice = self._voices[sequence]
        if sequence.request.embeds:
            return voice.read()
        news = [voice.echo()] if voice.owes_echo else []
        for left, draw in zip(range(len(draws) - 1, -1, -1), draws, strict=True):
            news.append(voice.say(draw, is_last=not left))
            if voice.stopped:
                sequence.drop(left)  # what stands behind a stop string was never said
                if not sequence.is_finished:
                    self.scheduler.finish(sequence, "stop")
                break
        return news

    def _done(self, request: Request) -> Reply:
        prompt, generated = len(request.prompt), request.generated
        usage = Usage(
            prompt_tokens=prompt,
            completion_tokens=generated,
            total_tokens=prompt + generated,
            cached_tokens=request.cached_tokens or 0,
        )
        voice = self._voices.get(request.choices[0])
        done = EngineDone(
            usage=usage,
            base_digest=self.base_digest,
            adapter=request.adapter,
            embedding=None if voice is None else voice.embedding,
        )
        self._forget(request)
        return Reply(request.id, EngineFrame(done=done))

    def _fail(self, request: Request, fault: EngineFault) -> Reply:
        self._faults += 1
        self.scheduler.cancel(request.id, keeps=False)
        self._forget(request)
        return Reply(request.id, EngineFrame(fault=fault))

    def _forget(self, request: Request) -> None:
        for sequence in request.choices:
            self._voices.pop(sequence, None)
        self._idle_since = self._clock()

    def _note(self) -> None:
        scheduler = self.scheduler
        self._numbers = {
            "running": scheduler.running,
            "waiting": scheduler.waiting,
            "running_requests": scheduler.running_requests,
            "pages_free": scheduler.pages.free,
            "pages_total": scheduler.pages.count,
            "adapters_resident": scheduler.slots.resident,
            "adapters_pinned": scheduler.slots.kept,
            "preemptions_total": scheduler.preemptions,
            "adapter_loads_total": self._loads,
            "prefix_tokens_total": scheduler.reused_tokens,
            "guessed_tokens_total": scheduler.guessed,
            "right_guesses_total": scheduler.guessed_right,
            "steps_total": self._steps,
            "requests_total": self._requests,
            "faults_total": self._faults,
            "prompt_tokens_total": self._prompt_tokens,
            "generated_tokens_total": self._generated_tokens,
        }


def _masks(sequences: Iterable[Sequence]) -> dict[Sequence, bytes | EngineFault]:
    """What the grammars allow next. It waits for no logits, so an accelerator works on meanwhile."""
    return {
        sequence: around_request(sequence.request.id, sequence.matcher.mask)
        for sequence in dict.fromkeys(sequences)  # one stands there once for each of its guesses
        if sequence.matcher is not None
    }


def _drawn(row: Row, logits: Tensor, glances: list[Glance], mask: bytes | None) -> list[Draw]:
    """The sequence's next token, and the one behind each guess that was it; its grammar takes note of them.

    A draw depends on what stands before it alone, so these are the tokens that as many steps would have drawn.
    logits [1 + guesses, V] float32.
    """
    sequence, draws = row.sequence, list[Draw]()
    length = sequence.length
    try:
        for scores, seen, guess in zip(logits, glances, (*row.drafts, None), strict=True):
            if draws and sequence.matcher is not None:
                mask = sequence.matcher.mask()
            drawn = sampler.draw(scores, sequence, mask, seen)
            if sequence.matcher is not None:
                sequence.matcher.consume(drawn.token)
            draws.append(drawn)
            if drawn.token != guess or drawn.token in sequence.request.stop_ids or sequence.is_complete:
                break
            sequence.tokens.append(drawn.token)  # the next one is drawn behind it
    finally:
        sequence.drop(sequence.length - length)  # they are booked by `Scheduler.commit`
    return draws
