"""The gate: from evidence to the probability that a question asks for a fact. It fails closed.

A network of two layers on standardised evidence, trained once per base by `memory.learn`. It knows numbers only.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.memory.evidence import FEATURES

HIDDEN = 48
FARTHEST = 4.0
"""Spreads from the mean beyond which evidence counts no further: what was never seen must not carry the day."""

Tensors = dict[str, Tensor]


def fresh(seed: int) -> Tensors:
    """An untrained gate's tensors."""
    generator = torch.Generator().manual_seed(seed)
    wide = len(FEATURES)
    return {
        "first": torch.randn(HIDDEN, wide, generator=generator) * wide**-0.5,
        "first_bias": torch.zeros(HIDDEN),
        "last": torch.randn(HIDDEN, generator=generator) * HIDDEN**-0.5,
        "last_bias": torch.tensor(-1.0),
        "mean": torch.zeros(wide),
        "spread": torch.ones(wide),
    }


def scores(tensors: Tensors, evidence: Tensor) -> Tensor:
    """evidence [N, FEATURES] → [N] log-odds."""
    x = ((evidence - tensors["mean"]) / tensors["spread"]).clamp(-FARTHEST, FARTHEST)
    hidden = F.gelu(F.linear(x, tensors["first"], tensors["first_bias"]), approximate="tanh")
    return hidden @ tensors["last"] + tensors["last_bias"]


def probabilities(tensors: Tensors, evidence: list[list[float]]) -> list[float]:
    """For each row of evidence; what is no number counts as no. The same as `scores`, without torch's start-up cost."""
    if not evidence:
        return []
    plain = {name: t.numpy() for name, t in tensors.items()}
    x = (np.array(evidence, np.float32) - plain["mean"]) / plain["spread"]
    x = np.clip(x, -FARTHEST, FARTHEST)
    hidden = x @ plain["first"].T + plain["first_bias"]
    hidden = 0.5 * hidden * (1 + np.tanh(_GELU * (hidden + 0.044715 * hidden**3)))
    odds = hidden @ plain["last"] + plain["last_bias"]
    found = 1 / (1 + np.exp(-np.clip(odds, -60, 60)))
    return [float(p) for p in np.nan_to_num(found, nan=0.0)]


_GELU = math.sqrt(2 / math.pi)
