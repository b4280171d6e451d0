"""Chooses tokens from logits, and reads log-probabilities off them.

It knows one row of logits at a time and nothing of batches, so a draw cannot depend on who shares the step.
The random numbers of a draw are a pure function of (seed, place in the sequence, choice): they are added to the
logits (the Gumbel-max way), so rounding that differs between batches flips a draw only where two candidates tie
to the last digits. Source: Gumbel, 1954; Maddison et al., "A* Sampling", 2014.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from inhouse import ops
from inhouse.engine.request import Sequence
from inhouse.errors import InternalError
from inhouse.schema import Sampling


@dataclass(frozen=True, slots=True)
class Score:
    """A token's log-probability under the model's own logits, and the most likely tokens at its place."""

    token: int
    logprob: float | None
    """None where nothing precedes the token."""
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """A chosen token; its score when the request asks for it."""

    token: int
    score: Score | None = None


@dataclass(frozen=True, slots=True)
class Glance:
    """What one look at all rows of a step tells of a row: the device is asked once, not for each."""

    best: int
    """The likeliest token"""
    is_finite: bool


def glance(logits: Tensor) -> list[Glance]:
    """logits [N, V] float32."""
    tokens, finite = torch.stack([t.long() for t in ops.best_tokens(logits)]).tolist()
    return [Glance(token, bool(is_finite)) for token, is_finite in zip(tokens, finite, strict=True)]


def draw(logits: Tensor, sequence: Sequence, mask: bytes | None = None, seen: Glance | None = None) -> Draw:
    """The sequence's next token. logits [V] float32; they are not changed. `mask`: which tokens may come, a bit each,
    as `text.grammar.Matcher.mask` gives it; None: all. `seen`: what `glance` saw, if it looked already.

    Raises InternalError when they are not finite: then the model, or this request's adapter, has overflowed.
    """
    seen = seen or glance(logits[None])[0]
    if not seen.is_finite:
        raise InternalError(
            "The model's output is not finite. If the request uses an adapter, tune it again."
        )
    sampling = sequence.request.sampling
    if sampling.temperature == 0 and mask is None and not _is_adjusted(sampling):
        return _scored(seen.best, logits, sampling)
    adjusted = _adjust(logits, sequence)
    if mask is not None:
        adjusted += _ruling_out(mask, adjusted)
    if sampling.temperature == 0:
        token = int(adjusted.argmax())
    else:
        # From the top down, so that the smallest temperature cannot overflow.
        kept = _keep((adjusted - adjusted.max()) / sampling.temperature, sampling)
        token = _drawn(kept, sequence, is_narrow=mask is not None or _is_narrowed(sampling))
    return _scored(token, logits, sampling)


def score(logits: Tensor, tokens: list[int], top: int) -> list[Score]:
    """Each token's score under its row of logits, with the `top` most likely. logits [N, V] float32."""
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None]).squeeze(1).tolist()
    if not top:
        return [Score(token, value) for token, value in zip(tokens, chosen, strict=True)]
    values, ids = (t.tolist() for t in logprobs.topk(min(top, logprobs.shape[1])))
    return [
        Score(token, value, tuple(zip(ids[i], values[i], strict=True)))
        for i, (token, value) in enumerate(zip(tokens, chosen, strict=True))
    ]


def _scored(token: int, logits: Tensor, sampling: Sampling) -> Draw:
    if sampling.logprobs is None:
        return Draw(token)
    return Draw(token, score(logits[None], [token], sampling.logprobs)[0])


def _is_adjusted(sampling: Sampling) -> bool:
    """Whether `_adjust` changes anything."""
    return bool(
        sampling.logit_bias
        or sampling.repetition_penalty != 1
        or sampling.frequency_penalty
        or sampling.presence_penalty
    )


def _adjust(logits: Tensor, sequence: Sequence) -> Tensor:
    """Logits after bias and penalties. Repetition counts prompt and reply, the other two the reply alone."""
    sampling = sequence.request.sampling
    adjusted = logits.clone()
    if sampling.logit_bias:
        ids = torch.tensor(list(sampling.logit_bias), device=logits.device)
        adjusted[ids] += torch.tensor(list(sampling.logit_bias.values()), device=logits.device)
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(sequence.tokens)), device=logits.device)
        values = adjusted[seen]
        factor = sampling.repetition_penalty
        adjusted[seen] = torch.where(values > 0, values / factor, values * factor)
    if sampling.frequency_penalty or sampling.presence_penalty:
        counts = Counter(sequence.tokens[sequence.prompt_length :])
        ids = torch.tensor(list(counts), device=logits.device, dtype=torch.int64)
        times = torch.tensor(list(counts.values()), device=logits.device, dtype=logits.dtype)
        adjusted[ids] -= sampling.frequency_penalty * times + sampling.presence_penalty
    return adjusted


def _ruling_out(mask: bytes, like: Tensor) -> Tensor:
    """0 where a mask's bit is set, -inf elsewhere; the lowest bit of each byte first. → [V] float32, as `like` [V].

    Added, it takes a seventh of the time that a masked fill takes over 128,000 tokens on a CPU.
    """
    packed = torch.frombuffer(bytearray(mask), dtype=torch.uint8).to(like.device)  # [V / 8]
    return _bytes_unpacked(like.device).index_select(0, packed.int()).flatten()[: len(like)]  # [V]


@cache
def _bytes_unpacked(device: torch.device) -> Tensor:
    """What each byte of a mask adds to its eight logits. [256, 8] float32."""
    bits = torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device) & 1  # [256, 8]
    return torch.where(bits == 1, 0.0, -torch.inf)


def _keep(scaled: Tensor, sampling: Sampling) -> Tensor:
    """Logits with -inf where top_k, top_p or min_p rules a token out; at least one is always left. [V] → [V]."""
    if 0 < sampling.top_k < len(scaled):
        lowest = scaled.topk(sampling.top_k).values[-1]
        scaled = scaled.masked_fill(scaled < lowest, -torch.inf)
    if sampling.min_p > 0:
        probabilities = scaled.softmax(-1)
        scaled = scaled.masked_fill(probabilities < sampling.min_p * probabilities.max(), -torch.inf)
    if sampling.top_p < 1:
        sorted_logits, order = scaled.sort(descending=True, stable=True)
        probabilities = sorted_logits.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities  # probability of all that are likelier
        sorted_logits[1:].masked_fill_(before[1:] >= sampling.top_p, -torch.inf)
        scaled = torch.empty_like(scaled).scatter_(0, order, sorted_logits)
    return scaled


def _is_narrowed(sampling: Sampling) -> bool:
    """Whether `_keep` rules tokens out."""
    return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0


def _drawn(kept: Tensor, sequence: Sequence, *, is_narrow: bool) -> int:
    """A token by chance, kept [V] being scaled logits. Where few may come, noise is made for those alone: it is the
    same for each, and takes most of a draw's time over a large vocabulary."""
    uniform = _uniform(len(kept), sequence)
    if not is_narrow:
        return int((kept + _gumbel(uniform).to(kept.device)).argmax())
    places = (kept > -torch.inf).nonzero().flatten()
    noise = _gumbel(uniform[places.cpu()]).to(kept.device)
    return int(places[(kept[places] + noise).argmax()])


def _uniform(size: int, sequence: Sequence) -> Tensor:
    """A number of 0 to 1 for each token of the vocabulary, by seed and place. [V] float64 on the CPU."""
    key = f"{sequence.request.seed}/{sequence.length}/{sequence.index}".encode()
    seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _gumbel(uniform: Tensor) -> Tensor:
    """Gumbel noise from uniform numbers, float32."""
    return -torch.log(-torch.log(uniform)).float()
