"""Measuring a model on rows that it is not trained on. It changes nothing: no weight, no order, no random number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from inhouse.data.examples import Example
from inhouse.data.pack import pack, split
from inhouse.model.adapters import TrainedLora
from inhouse.model.decoder import Decoder
from inhouse.tune.loss import Loss, supervised

SHARE = 0.1
"""A look on the way reads at most this share of the tokens trained in `evaluate_every` steps: with no backward pass,
that adds at most 5 % to a run's work, however large the validation file; the looks where a model is published on the
way, which are about as many, add as much again."""


@dataclass(frozen=True, slots=True)
class Score:
    """Means over trained tokens."""

    loss: float
    """In nats."""
    accuracy: float
    """The share that is the likeliest token at its place."""


class Validation:
    """Rows to measure on: on the way a sample, the same each time so that its losses compare; at the end all."""

    def __init__(self, examples: Sequence[Example], *, max_tokens: float, seed: int) -> None:
        self.examples = examples
        self.sample = _sample(examples, max_tokens, seed)


def evaluate(
    decoder: Decoder,
    lora: TrainedLora | None,
    examples: Sequence[Example],
    *,
    micro_tokens: int,
    loss: Loss = supervised,
) -> Score:
    """The score over examples, without training on them."""
    loss_tokens = sum(e.loss_tokens for e in examples)
    total, right = 0.0, 0
    with torch.no_grad():
        for run in split(examples, micro_tokens):
            value, _, is_best = loss(decoder, lora, pack(run).to(decoder.device), 1.0 / loss_tokens)
            total += float(value)
            right += int(is_best.sum())
    return Score(total, right / loss_tokens)


def _sample(examples: Sequence[Example], max_tokens: float, seed: int) -> list[Example]:
    """Rows drawn from the whole file up to so many tokens, one at least."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen: list[Example] = []
    tokens = 0
    for i in order:
        tokens += len(examples[i].ids)
        if chosen and tokens > max_tokens:
            break
        chosen.append(examples[i])
    return chosen
