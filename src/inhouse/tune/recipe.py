"""Turns a tuning spec into numbers: what the user gave, and for "auto" what we would choose, with the reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from inhouse.errors import InvalidRequest
from inhouse.model.config import ModelConfig
from inhouse.schema import TuneSpec
from inhouse.tune.optim import BETAS

MICRO_TOKENS = 4096
"""Tokens in one forward pass: enough to fill a core's matrix unit, few enough for a laptop's memory."""

MAX_FULL_PARAMETERS = 500_000_000
"""Full tuning keeps 16 bytes a parameter; above this LoRA is what fits an ordinary machine."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every number of a training run, decided."""

    method: str
    """lora or full"""
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    rank: int
    alpha: float
    weight_decay: float
    clip: float
    checkpoint_every: int
    seed: int
    micro_tokens: int = MICRO_TOKENS
    optimizer: str = "adamw"
    """adamw, or muon for the matrices of a whole model that is trained from nothing"""
    betas: tuple[float, float] = BETAS
    evaluate_every: int = 100
    """Steps between two looks at the validation rows, where there are any"""
    reasons: dict[str, str] = field(default_factory=dict)
    """For each number that was left to us: why this one."""


def resolve(spec: TuneSpec, config: ModelConfig, *, parameters: int, examples: int) -> Recipe:
    """Fills every "auto". Raises InvalidRequest where what was given cannot work."""
    reasons: dict[str, str] = {}

    method = spec.method
    if method == "auto":
        method = "lora"
        reasons["method"] = "LoRA: a few megabytes a model, and many share one base in memory"
    if method == "full" and parameters > MAX_FULL_PARAMETERS:
        raise InvalidRequest(
            f"Full tuning of {parameters / 1e9:.1f}B parameters needs about {parameters * 16 / 2**30:.0f} GiB. "
            "Use LoRA, or a smaller base.",
            param="method",
        )

    if spec.batch_size != "auto":
        batch_size = spec.batch_size
    else:
        batch_size = max(1, min(16, examples // 12))
        reasons["batch_size"] = (
            f"{examples} rows: about a dozen steps or more an epoch, at most 16 rows a step"
        )

    if spec.epochs != "auto":
        epochs = spec.epochs
    else:
        epochs = max(3, min(40, round(3000 / examples)))
        reasons["epochs"] = f"{examples} rows: each seen about 3,000 / rows times, between 3 and 40"

    if spec.learning_rate != "auto":
        rate = spec.learning_rate
    else:
        rate = _rate(method, config.width)
        reasons["learning_rate"] = f"{method} at width {config.width}" + (
            ": ten times the rate of full tuning" if method == "lora" else ""
        )
    if spec.learning_rate_multiplier != "auto":
        rate *= spec.learning_rate_multiplier

    if spec.rank != "auto":
        rank = spec.rank
    else:
        rank = 8 if examples < 50 else 16 if examples < 2000 else 32
        reasons["rank"] = f"{examples} rows: more to learn asks for more room"
    alpha = float(2 * rank if spec.alpha == "auto" else spec.alpha)

    steps = math.ceil(examples / min(batch_size, examples)) * epochs
    if spec.checkpoint_every != "auto":
        every = spec.checkpoint_every
    else:
        every = max(10, math.ceil(steps / 20))
        reasons["checkpoint_every"] = "about twenty a run, so that a crash costs at most a twentieth"

    evaluate_every = max(1, math.ceil(steps / 10)) if spec.evaluate_every == "auto" else spec.evaluate_every
    if spec.evaluate_every == "auto" and spec.validation is not None:
        reasons["evaluate_every"] = "about ten looks at the validation rows: enough to see them turn"

    return Recipe(
        method=method,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        warmup_steps=max(1, min(100, steps // 20)),
        rank=rank,
        alpha=alpha,
        weight_decay=0.0 if method == "lora" else 0.01,
        clip=1.0,
        checkpoint_every=every,
        seed=spec.seed,
        evaluate_every=evaluate_every,
        reasons=reasons,
    )


def _rate(method: str, width: int) -> float:
    """2e-4 for LoRA at width 4,096, the field's common value, and higher for narrower models, whose gradients
    are noisier but whose useful range of rates lies higher."""
    lora = 2e-4 * math.pow(4096 / width, 0.85)
    return min(5e-3, lora) / (1 if method == "lora" else 10)
