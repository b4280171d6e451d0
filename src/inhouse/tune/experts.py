"""Trains memory experts: for each fact a small LoRA in the last layers of a frozen base, exact word for word.

Many train side by side, each on its own examples and with its own state, so that none depends on its neighbours.
It knows tokens and tensors; it knows neither questions nor banks nor when an expert is used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice, pairwise

import torch
from torch import Tensor

from inhouse import ops
from inhouse.data.examples import Example
from inhouse.data.pack import pack, split
from inhouse.errors import InvalidRequest
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Packed
from inhouse.tune.grouped import Factors, Place, SideBySide, Span, places
from inhouse.tune.recipe import MICRO_TOKENS
from inhouse.tune.trunk import Cut, Trunk, compute, disturb, join, tail

MODULES = frozenset(["q", "k", "v", "out", "gate", "up", "down"])
BETAS = (0.8, 0.95)
"""Adam's: an expert takes some twenty steps, so its state must forget within a few."""
A_RATE = 256
"""A step of Adam's moves every entry of A, so what A makes of an input moves with the number of its entries. Divided
by them, a rate means the same in a wide base as in a narrow one."""
MARGIN = 0.8
"""An expert is trained to this share of the goal, so that rounding does not undo it."""
LATER_RATE = 0.3
"""Each further rank's rate, as a share of the one before: what failed may have failed by too large steps."""
WARMUP_STEPS = 5
NOISE_FADES = (0.3, 0.6)
"""Between these shares of the steps allowed noise falls to nothing: what cannot be learned with it may be without."""
DECAY_AFTER, DECAY = 0.6, 0.3
"""After this share of the steps allowed the rate falls to this share: those still there overshoot."""
MAX_NEGATIVE_TOKENS = 24
"""So much of the base's own answer to a negative is kept."""


@dataclass(frozen=True, slots=True)
class ExpertTask:
    """A fact to learn."""

    fact: str
    """Its id."""
    wordings: tuple[Example, ...]
    """Each way of asking with the stored answer, by `ChatTemplate.example`."""
    negatives: tuple[tuple[int, ...], ...] = ()
    """Prompts that the base must go on answering as it does by itself, if they are routed here by mistake."""


@dataclass(frozen=True, slots=True)
class ExpertSettings:
    """How experts are shaped and trained. The defaults are the ablation's choice (benchmarks/memory/experts.py)."""

    layers: int = 1
    """The last so many blocks."""
    modules: frozenset[str] = frozenset(["gate", "up", "down"])
    """Of q, k, v, out, gate, up, down. Without the first four the trunk reaches up to the MLP of its block."""
    ranks: tuple[int, ...] = (1, 4)
    """Tried one after the other."""
    goal: float = 0.05
    """The worst token's loss must be below, in nats: so sure that no other token is near, whatever rounds."""
    learning_rate: float = 0.04
    """Adam's, of B; A's is this times A_RATE, divided by the layer's inputs."""
    noise: float = 0.6
    """What training adds to the trunk's states, as a share of their size: it stands for wordings that are not
    among the examples. It fades when an expert takes long."""
    max_steps: int = 100
    """For each rank."""
    side_by_side: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        assert self.modules and self.modules <= MODULES, f"modules are of {sorted(MODULES)}"
        assert self.ranks and self.layers >= 1 and self.side_by_side >= 1 and self.max_steps >= 1


@dataclass(frozen=True, slots=True)
class ExpertResult:
    """What became of a fact. `tensors` are rounded as they are kept, and empty when it was given up."""

    fact: str
    rank: int
    alpha: float
    tensors: dict[str, tuple[Tensor, Tensor]]
    """For each module A [R, in] and B [out, R], bfloat16 where that is exact, else float32."""
    worst_loss: float
    """Of all tokens of all wordings, as rounded; in nats."""
    steps: int
    """At this rank."""
    is_exact: bool
    reason: str | None = None
    """Why it was given up; None when it was not."""


@dataclass(frozen=True, slots=True)
class ExpertProgress:
    """How far training is, after each step of all that train at the moment."""

    done: int
    failed: int
    total: int
    mean_loss: float
    """Over the experts in this step, of the mean over each one's tokens."""
    steps: int
    finished: tuple[ExpertResult, ...] = ()
    """Those that ended with this step, for good."""
    results: dict[str, ExpertResult] = field(default_factory=dict)
    """All that have ended, by fact; the same dictionary each time, which grows."""


def train_experts(
    decoder: Decoder, facts: Sequence[ExpertTask], settings: ExpertSettings
) -> Iterator[ExpertProgress]:
    """Trains an expert for each fact, and yields how far it is; the last one's `results` holds every fact.

    An expert is a function of (decoder, its task, settings), up to rounding: see `tests/tune/test_experts.py`.
    A fact that no rank makes exact is given up with a reason; the others do not notice.
    """
    assert len({task.fact for task in facts}) == len(facts), "a fact's id stands twice among the tasks"
    results: dict[str, ExpertResult] = {}
    steps = done = 0

    def progress(mean_loss: float, finished: list[ExpertResult]) -> ExpertProgress:
        nonlocal done
        results.update((result.fact, result) for result in finished)
        done += sum(result.is_exact for result in finished)
        return ExpertProgress(
            done, len(results) - done, len(facts), mean_loss, steps, tuple(finished), results
        )

    unfit = [
        ExpertResult(t.fact, 0, 0.0, {}, math.inf, 0, False, why)
        for t in facts
        if (why := _unfit(decoder, t))
    ]
    refused = {result.fact for result in unfit}
    yield progress(math.nan, unfit)
    left = _prepare(decoder, [task for task in facts if task.fact not in refused])
    for attempt, rank in enumerate(settings.ranks):
        pool = _Pool(decoder, settings, rank, settings.learning_rate * LATER_RATE**attempt)
        seats = _seats(decoder, left, pool.cut)
        failed: list[_Case] = []
        while pool.take(seats):
            mean_loss, ended = pool.step()
            steps += 1
            finished = []
            for case, result in ended:
                if result.is_exact or rank == settings.ranks[-1]:
                    finished.append(result)
                else:
                    failed.append(case)
            yield progress(mean_loss, finished)
        left = iter(failed)


# ── what an expert learns from ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Case:
    """A task whose negatives have their answers."""

    fact: str
    examples: tuple[Example, ...]
    """The wordings, then the negatives with the base's own answers."""
    taught_rows: int
    """Places with loss that are of wordings; they stand first."""

    @property
    def tokens(self) -> int:
        return sum(len(example.ids) for example in self.examples)


@dataclass(slots=True)
class _Seat:
    """A fact in training."""

    case: _Case
    trunk: Trunk
    steps: int = 0


def _unfit(decoder: Decoder, task: ExpertTask) -> str | None:
    """Why this task cannot be trained at all."""
    context = decoder.config.context
    if not task.wordings or not all(example.loss_tokens for example in task.wordings):
        return "it has a wording without an answer"
    longest = max(len(ids) for ids in (*(example.ids for example in task.wordings), *task.negatives))
    if longest > context:
        return f"a wording has {longest} tokens, the base's context holds {context}"
    return None


def _prepare(decoder: Decoder, tasks: Sequence[ExpertTask]) -> Iterator[_Case]:
    """Cases, a bundle of tasks at a time: the base answers the negatives of all of them together."""
    waiting = iter(tasks)
    while bundle := list(islice(waiting, 32)):
        prompts = [(task, prompt) for task in bundle for prompt in task.negatives]
        stops = [task.wordings[0].ids[_last_trained(task.wordings[0])] for task, _ in prompts]
        answers = iter(_own_answers(decoder, [prompt for _, prompt in prompts], stops))
        for task in bundle:
            own = (next(answers) for _ in task.negatives)
            yield _Case(
                task.fact, (*task.wordings, *own), sum(example.loss_tokens for example in task.wordings)
            )


def _last_trained(example: Example) -> int:
    """The place of the reply's end token."""
    return max(i for i, is_trained in enumerate(example.trained) if is_trained)


def _own_answers(decoder: Decoder, prompts: Sequence[tuple[int, ...]], stops: Sequence[int]) -> list[Example]:
    """Each prompt with the base's greedy answer to it, up to its stop token."""
    answers: list[list[int]] = [[] for _ in prompts]
    room = [min(MAX_NEGATIVE_TOKENS, decoder.config.context - len(prompt)) for prompt in prompts]
    while going := [
        i for i, answer in enumerate(answers) if len(answer) < room[i] and answer[-1:] != [stops[i]]
    ]:
        texts = [
            Example((*prompts[i], *answers[i]), (False,) * (len(prompts[i]) + len(answers[i]))) for i in going
        ]
        following = [token for run in split(texts, MICRO_TOKENS) for token in _next_tokens(decoder, run)]
        for i, token in zip(going, following, strict=True):
            answers[i].append(token)
    return [
        Example((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _next_tokens(decoder: Decoder, texts: list[Example]) -> list[int]:
    batch = pack(texts).to(decoder.device)
    ends = torch.tensor(list(accumulate(batch.lengths)), device=decoder.device) - 1
    with torch.no_grad():
        hidden = decoder.forward(batch.tokens, batch.positions, Packed(batch.lengths), None, ends)
        best: list[int] = decoder.logits(hidden).argmax(-1).tolist()
    return best


def _seats(decoder: Decoder, cases: Iterable[_Case], cut: Cut) -> Iterator[_Seat]:
    """Cases with their trunks, which are computed for as many at once as fit a pass."""
    run: list[_Case] = []
    for case in cases:
        if run and sum(c.tokens for c in run) + case.tokens > MICRO_TOKENS:
            yield from _seated(decoder, run, cut)
            run = []
        run.append(case)
    if run:
        yield from _seated(decoder, run, cut)


def _seated(decoder: Decoder, run: list[_Case], cut: Cut) -> Iterator[_Seat]:
    trunks = compute(decoder, [case.examples for case in run], cut)
    return (_Seat(case, trunk) for case, trunk in zip(run, trunks, strict=True))


# ── training ──────────────────────────────────────────────────────────────────────────────────────────────


class _Pool:
    """The experts of one rank that train at the moment. All tensors are [E, ...], one slice an expert."""

    def __init__(self, decoder: Decoder, settings: ExpertSettings, rank: int, rate: float) -> None:
        self.decoder, self.settings, self.rank, self.rate = decoder, settings, rank, rate
        block = max(0, len(decoder.blocks) - settings.layers)
        mixes_tokens = settings.modules & {"q", "k", "v", "out"} or decoder.blocks[block].is_parallel
        self.cut = Cut(block, "attention" if mixes_tokens else "mlp")
        self.places = places(decoder, block, settings.modules)
        if not self.places:
            raise InvalidRequest(
                "Experts of facts change the MLP of a base's last block, and this base has a mixture of experts there, "
                "which is not adapted. Make the memory without experts, or on a base without a mixture."
            )
        self.seats: list[_Seat] = []
        self.factors: list[Tensor] = []
        """Every place's A, then every place's B; `moments` are Adam's two for each."""
        self.moments: list[tuple[Tensor, Tensor]] = []

    def take(self, seats: Iterator[_Seat]) -> bool:
        """Fills free places; whether anybody is there to train."""
        new = list(islice(seats, self.settings.side_by_side - len(self.seats)))
        if new:
            fresh = [torch.stack(each) for each in zip(*(self._start(s.case.fact) for s in new), strict=True)]
            zeros = [torch.zeros_like(f) for f in fresh]
            if self.seats:
                self.factors = [torch.cat(pair) for pair in zip(self.factors, fresh, strict=True)]
                self.moments = [
                    (torch.cat((first, zero)), torch.cat((second, zero)))
                    for (first, second), zero in zip(self.moments, zeros, strict=True)
                ]
            else:
                self.factors, self.moments = fresh, [(zero, zero.clone()) for zero in zeros]
            self.seats += new
            self._lay_out()
        return bool(self.seats)

    def step(self) -> tuple[float, list[tuple[_Case, ExpertResult]]]:
        """One step of all. Returns the mean loss before it, and those that end: exact, or not at this rank."""
        factors = [f.requires_grad_() for f in self.factors]
        trunk = self._trunk
        if self.settings.noise:
            trunk = disturb(self.decoder, trunk, self._noise(), self.cut)
        known = (self.cut.first(self.decoder), trunk.product)
        adapters = SideBySide(self.places, Factors.of(factors), self._spans, known)
        hidden = tail(self.decoder, trunk, self.cut, adapters)
        loss, losses, is_best = ops.chunked_cross_entropy(
            hidden, self.decoder.head, trunk.targets, self._weights, cap=self.decoder.config.logit_cap
        )
        gradients = torch.autograd.grad(loss, factors)
        self.factors = [f.detach() for f in factors]
        are_finite = torch.stack([g.isfinite().flatten(1).all(1) for g in gradients]).all(0).tolist()
        marks = _marks([seat.case for seat in self.seats], losses, is_best)
        mean_loss = sum(mark.mean_loss for mark in marks) / len(marks)

        goal, most = self.settings.goal * MARGIN, self.settings.max_steps
        results = self._checked([i for i, mark in enumerate(marks) if mark.reaches(goal)])
        for i, (seat, mark, is_finite) in enumerate(zip(self.seats, marks, are_finite, strict=True)):
            if i not in results and (not is_finite or seat.steps == most):
                results[i] = self._failure(seat, mark)
        ended = [(self.seats[i].case, result) for i, result in results.items()]
        self._go_on(gradients, [i for i in range(len(self.seats)) if i not in results])
        return mean_loss, ended

    def _noise(self) -> Tensor:
        """A pure function of seed, fact, rank and step, like an expert's start. → as the trunk's hidden states"""
        begin, end = (share * self.settings.max_steps for share in NOISE_FADES)
        every = []
        for seat in self.seats:
            fading = min(1.0, max(0.0, (end - seat.steps) / (end - begin)))
            generator = self._generator(seat.case.fact, f"noise {seat.steps}")
            noise = torch.randn(seat.trunk.hidden.shape, generator=generator)
            every.append(noise.mul_(self.settings.noise * fading))
        return torch.cat(every).to(self.decoder.device)

    def _generator(self, fact: str, what: str) -> torch.Generator:
        name = f"{self.settings.seed} {self.rank} {what} {fact}".encode()
        seed = int.from_bytes(hashlib.blake2b(name, digest_size=7).digest())
        return torch.Generator().manual_seed(seed)

    def _start(self, fact: str) -> list[Tensor]:
        """Untrained factors: every place's A, of one size with its input on average, then every place's B, zero."""
        every_a = []
        for place in self.places:
            noise = torch.rand(self.rank, place.inputs, generator=self._generator(fact, place.name))
            every_a.append((noise * 2 - 1) * math.sqrt(3 / place.inputs))
        every_b = [torch.zeros(place.outputs, self.rank) for place in self.places]
        return [tensor.to(self.decoder.device) for tensor in (*every_a, *every_b)]

    def _lay_out(self) -> None:
        """The seats as one stream. Each expert's tokens weigh one together."""
        self._trunk = join([seat.trunk for seat in self.seats])
        tokens = [len(seat.trunk.positions) for seat in self.seats]
        rows = [len(seat.trunk.rows) for seat in self.seats]
        self._spans: dict[int, list[Span]] = {sum(sizes): _spans(sizes) for sizes in (tokens, rows)}
        weights = [1 / count for count in rows for _ in range(count)]
        self._weights = torch.tensor(weights, device=self.decoder.device)

    def _go_on(self, gradients: Sequence[Tensor], stay: list[int]) -> None:
        """Adam's step for those that stay; the others' places are free."""
        if len(stay) < len(self.seats):
            self.seats = [self.seats[i] for i in stay]
            keep = torch.tensor(stay, device=self.decoder.device, dtype=torch.int64)
            self.factors = [f[keep] for f in self.factors]
            self.moments = [(first[keep], second[keep]) for first, second in self.moments]
            gradients = [g[keep] for g in gradients]
            if self.seats:
                self._lay_out()
        for seat in self.seats:
            seat.steps += 1
        most = self.settings.max_steps
        rates = [
            min(1.0, s.steps / WARMUP_STEPS) * (DECAY if s.steps > DECAY_AFTER * most else 1)
            for s in self.seats
        ]
        first_bias, second_bias = ([1 - beta**s.steps for s in self.seats] for beta in BETAS)
        rate, bias1, bias2 = (
            torch.tensor(each, device=self.decoder.device).view(-1, 1, 1)
            for each in (rates, first_bias, second_bias)
        )
        peaks = [self.rate * A_RATE / place.inputs for place in self.places] + [self.rate] * len(self.places)
        for factor, (first, second), gradient, peak in zip(
            self.factors, self.moments, gradients, peaks, strict=True
        ):
            first.lerp_(gradient, 1 - BETAS[0])
            second.lerp_(gradient.square(), 1 - BETAS[1])
            factor -= peak * rate * (first / bias1) / ((second / bias2).sqrt() + 1e-8)

    def _checked(self, ready: list[int]) -> dict[int, ExpertResult]:
        """Those of them that are exact once rounded, by the whole forward pass: in bfloat16, else in float32."""
        results: dict[int, ExpertResult] = {}
        for dtype in (torch.bfloat16, torch.float32):
            ready = [i for i in ready if i not in results]
            if not ready:
                break
            rounded = [f[ready].to(dtype) for f in self.factors]
            marks = _whole_path(self.decoder, [self.seats[i].case for i in ready], self.places, rounded)
            for k, (i, mark) in enumerate(zip(ready, marks, strict=True)):
                if mark.reaches(self.settings.goal):
                    own = Factors.of([f[k].cpu().clone() for f in rounded])
                    tensors = {p.name: (a, b) for p, a, b in zip(self.places, own.a, own.b, strict=True)}
                    results[i] = self._result(self.seats[i], mark, tensors)
        return results

    def _result(
        self,
        seat: _Seat,
        mark: _Mark,
        tensors: dict[str, tuple[Tensor, Tensor]],
        reason: str | None = None,
    ) -> ExpertResult:
        return ExpertResult(
            seat.case.fact,
            self.rank,
            float(self.rank),
            tensors,
            mark.worst_loss,
            seat.steps,
            reason is None,
            reason,
        )

    def _failure(self, seat: _Seat, mark: _Mark) -> ExpertResult:
        if not math.isfinite(mark.worst_loss):
            why = "the loss was not finite"
        elif mark.reaches(self.settings.goal):
            why = "it was not exact once rounded"
        elif mark.keeps_negatives:
            why = f"the worst token's loss was {mark.worst_loss:.3f}, and below {self.settings.goal:g} is needed,"
        else:
            why = "a negative did not keep the base's own answer"
        return self._result(seat, mark, {}, f"{why} after {seat.steps} steps at rank {self.rank}")


@dataclass(frozen=True, slots=True)
class _Mark:
    """How well an expert does on its own examples."""

    mean_loss: float
    worst_loss: float
    """Of the wordings' tokens; NaN where one is."""
    is_greedy: bool
    """Whether each of those tokens is the likeliest at its place, so that greedy decoding gives the answer."""
    keeps_negatives: bool
    """Whether the same is true of the base's own answers to the negatives."""

    def reaches(self, goal: float) -> bool:
        return self.worst_loss < goal and self.is_greedy and self.keeps_negatives


def _marks(cases: Sequence[_Case], losses: Tensor, is_best: Tensor) -> list[_Mark]:
    """losses and is_best [N], the rows of all cases one after the other."""
    sizes = [sum(example.loss_tokens for example in case.examples) for case in cases]
    marks = []
    for case, loss, best in zip(cases, losses.cpu().split(sizes), is_best.cpu().split(sizes), strict=True):
        taught, kept = best[: case.taught_rows], best[case.taught_rows :]
        worst = float(loss[: case.taught_rows].max())
        marks.append(_Mark(float(loss.mean()), worst, bool(taught.all()), bool(kept.all())))
    return marks


def _whole_path(
    decoder: Decoder, cases: Sequence[_Case], places: Sequence[Place], factors: Sequence[Tensor]
) -> list[_Mark]:
    """How each case does with its factors in the whole forward pass, as it is served."""
    batch = pack([example for case in cases for example in case.examples]).to(decoder.device)
    tokens = [case.tokens for case in cases]
    adapters = SideBySide(places, Factors.of(factors), {sum(tokens): _spans(tokens)})
    weights = torch.zeros(len(batch.targets), device=decoder.device)
    with torch.no_grad():
        hidden = decoder.forward(batch.tokens, batch.positions, Packed(batch.lengths), adapters, batch.rows)
        cap = decoder.config.logit_cap
        _, losses, is_best = ops.chunked_cross_entropy(hidden, decoder.head, batch.targets, weights, cap=cap)
    return _marks(cases, losses, is_best)


def _spans(sizes: Sequence[int]) -> list[Span]:
    return list(pairwise([0, *accumulate(sizes)]))
