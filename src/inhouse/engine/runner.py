"""Runs a batch through the model.

It holds the tensors: decoder, cache and adapters. It knows no queues and no text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from inhouse import ops
from inhouse.device import Capture, Plain
from inhouse.engine import sampler
from inhouse.engine.adapters import Bank
from inhouse.engine.arena import Factors
from inhouse.engine.batch import Batch
from inhouse.engine.cache import Cache
from inhouse.engine.embedding import Part, parts_of
from inhouse.engine.graphs import Steps
from inhouse.engine.library import Library
from inhouse.engine.request import Sequence
from inhouse.engine.sampler import Score
from inhouse.engine.whole import Whole
from inhouse.model.decoder import Decoder
from inhouse.ops.registry import REFERENCE

SCORED_ROWS = 64
"""Prompt tokens whose logits exist at once."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gives."""

    logits: Tensor
    """[N, V] float32, a row for each sequence of `batch.drawing`"""
    scores: list[Score]
    """[M] for each of `batch.scoring`"""
    parts: list[Part] = field(default_factory=list)
    """For each of `batch.pooling`"""


class Runner:
    """The model on its device."""

    def __init__(
        self,
        decoder: Decoder,
        cache: Cache,
        library: Library,
        *,
        adapter_rows: int,
        capture: Capture | None = None,
    ) -> None:
        """adapter_rows  rank rows that the device has for adapters
        capture       how decoding steps are made ready once and replayed; None runs each as it comes"""
        self.decoder = decoder
        self.cache = cache
        self.library = library
        self.bank = Bank(decoder, adapter_rows)
        self.whole = Whole.of(decoder, cache, self.bank.arena)
        self.steps: Steps | None = None
        if capture is not None:
            is_plain = ops.kernels.choose("grouped_lora", decoder.device).name == REFERENCE
            self.steps = Steps(
                decoder,
                cache,
                self.bank.arena,
                capture,
                with_adapters=not is_plain or isinstance(capture, Plain),
            )

    def load(self, slot: int, factors: Factors) -> None:
        """Copies an adapter or an expert from this machine's memory into a slot."""
        self.bank.load(slot, factors)
        if self.steps is not None:
            self.steps.table.load(slot)

    def empty(self, slot: int) -> None:
        """Gives a slot's rows back."""
        self.bank.release(slot)
        if self.steps is not None:
            self.steps.table.release(slot)

    @torch.inference_mode()
    def run(self, batch: Batch) -> Output:
        """Computes a batch that lies on the host."""
        ready = None if self.steps is None else self.steps.run(batch)
        if ready is not None:
            return Output(ready, [])
        batch, adapters = batch.to(self.decoder.device), self.bank.mix(batch.slots)
        hidden = None if self.whole is None else self.whole.run(batch, adapters)
        if hidden is None:
            hidden = self.decoder.forward(
                batch.tokens, batch.positions, batch.attend, adapters, batch.rows
            )  # [N + M + E, D]
        draws, scores = len(batch.drawing), len(batch.scoring)
        drawing, scoring, pooling = hidden.tensor_split([draws, draws + scores])
        parts = parts_of(pooling, [len(row.states) for row in batch.pooling])
        return Output(self.decoder.logits(drawing), self._scores(scoring, batch.scoring), parts)

    def _scores(self, hidden: Tensor, wanted: list[tuple[Sequence, int]]) -> list[Score]:
        """Scores of prompt tokens, a few rows of logits at a time. hidden [M, D]."""
        scores: list[Score] = []
        for start in range(0, len(wanted), SCORED_ROWS):
            part = wanted[start : start + SCORED_ROWS]
            tokens = [sequence.tokens[place] for sequence, place in part]
            tops = [sequence.request.sampling.logprobs or 0 for sequence, _ in part]
            logits = self.decoder.logits(hidden[start : start + len(part)])
            for found, top in zip(sampler.score(logits, tokens, max(tops)), tops, strict=True):
                scores.append(Score(found.token, found.logprob, found.top[:top]))
        return scores
