"""How much a fact's expert does: the stored answer's log-probability with it, less without it.

It knows tensors and no queues; it is asked off the step, by the threads that prepare requests.
"""

from __future__ import annotations

import torch

from inhouse.engine.adapters import Bank
from inhouse.engine.library import Library
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Packed

MOST_TOKENS = 512
"""Prompt and answer together: of longer ones no gain is told, for both readings would hold a thread and memory."""


class Proof:
    """Scores on a decoder that steps elsewhere: nothing of it is changed here."""

    def __init__(self, decoder: Decoder, library: Library) -> None:
        self.decoder = decoder
        self._library = library
        if decoder.rotation is not None:  # its table grows once: now, not in two threads at the same time
            decoder.rotation(torch.zeros(1, dtype=torch.int64, device=decoder.device), decoder.config.context)

    @torch.inference_mode()
    def gain(self, prompt: list[int], answer: list[int], *, adapter: str | None, expert: str) -> float | None:
        """Mean over the answer's tokens; the adapter, if any, works in both. None where they are
        too long."""
        length, places = len(prompt) + len(answer), len(prompt) - 1
        if not answer or length > min(MOST_TOKENS, self.decoder.config.context):
            return None
        used = [self._library.read(key) for key in (expert, adapter) if key is not None]
        bank = Bank(self.decoder, sum(factors.rows for factors in used))
        for slot, factors in enumerate(used):
            bank.load(slot, factors)
        without: tuple[int, ...] = () if adapter is None else (1,)
        device = self.decoder.device
        rows = torch.arange(
            places, length - 1, device=device
        )  # [M], each answer token is read one place earlier
        hidden = self.decoder.forward(
            torch.tensor([*prompt, *answer] * 2, device=device),
            torch.arange(length, device=device).repeat(2),
            Packed([length, length]),
            bank.mix([(*without, 0)] * length + [without] * length),
            torch.cat([rows, rows + length]),
        )  # [2 M, D]
        logprobs = self.decoder.logits(hidden).log_softmax(-1)
        told = logprobs.gather(1, torch.tensor(answer * 2, device=device)[:, None]).squeeze(1)  # [2 M]
        with_expert, plain = told.view(2, -1).mean(1).tolist()
        return float(with_expert - plain)
