"""Rotary positions as numbers: how fast each pair of a head turns, stretched as a checkpoint asks.

It knows config keys and arithmetic, and no tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from inhouse.errors import BadCheckpoint
from inhouse.model.keys import Keys

_COMMON = frozenset(["rope_type", "type", "rope_theta", "partial_rotary_factor"])
_OPTIONS: dict[str, frozenset[str]] = {
    "default": frozenset(),
    "linear": frozenset(["factor"]),
    "llama3": frozenset(
        ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
    ),
    "yarn": frozenset(
        [
            "factor",
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
            "truncate",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
        ]
    ),
    "longrope": frozenset(
        ["factor", "original_max_position_embeddings", "short_factor", "long_factor", "attention_factor"]
    ),
}
"""What each kind of stretching may say beside what all may."""


@dataclass(frozen=True, slots=True)
class Rope:
    """The rotation of a kind of layer."""

    frequencies: tuple[float, ...]
    """Angle a position for each pair; what of a head is wider than the pairs is not turned."""
    size: float = 1.0
    """What turned queries and keys are multiplied by."""
    long_frequencies: tuple[float, ...] = ()
    """Those of sequences longer than `long_above` tokens, in all their places; empty where length does not matter."""
    long_above: int = 0


_NO_OLD_NAMES: Mapping[str, str] = MappingProxyType({})


def read_rope(
    keys: Keys,
    *,
    head_width: int,
    context: int,
    theta: float = 10_000.0,
    share: float | None = None,
    old_names: Mapping[str, str] = _NO_OLD_NAMES,
) -> Rope:
    """The rope of all layers, from either spelling: rope_parameters, or rope_theta with rope_scaling.

    share      of a head that is turned by default; None for a family that always turns all of it
    old_names  what old checkpoints of the family call a kind, and what it is called now
    """
    values = {**keys.get("rope_parameters", dict, {}), **keys.get("rope_scaling", dict, {})}
    for name, kind in (("rope_theta", float), ("original_max_position_embeddings", int)):
        if (value := keys.get(name, kind, None)) is not None:
            values[name] = value
    if share is not None and (value := keys.get("partial_rotary_factor", float, None)) is not None:
        values["partial_rotary_factor"] = value
    for name in ("rope_type", "type"):
        if name in values:
            values[name] = old_names.get(values[name], values[name])
    return rope_of(keys, values, head_width=head_width, context=context, theta=theta, share=share)


def rope_of(
    keys: Keys,
    values: dict[str, Any],
    *,
    head_width: int,
    context: int,
    theta: float,
    share: float | None = None,
) -> Rope:
    """The rope that a table of rope parameters describes. Raises BadCheckpoint for what it does not know."""
    kind = values.get("rope_type", values.get("type", "default"))
    if kind not in _OPTIONS:
        known = ", ".join(_OPTIONS)
        raise BadCheckpoint(f"{keys.file}: rope type {kind!r} is not supported; only {known}.")
    given = {name for name, value in values.items() if value is not None}
    # A table that was read and saved again names the trained context for every kind.
    unknown = sorted(given - _OPTIONS[kind] - _COMMON - {"original_max_position_embeddings"})
    if unknown:
        raise BadCheckpoint(f"{keys.file}: rope type {kind!r} does not know {', '.join(unknown)}.")
    turned = values.get("partial_rotary_factor")
    if share is None and turned not in (None, 1.0):
        raise BadCheckpoint(f"{keys.file}: partial_rotary_factor = {turned!r} is not supported; only 1.0.")
    try:
        width = int(head_width * float(share if turned is None else turned)) if share else head_width
        base = float(theta if values.get("rope_theta") is None else values["rope_theta"])
        plain = [base ** (-2 * i / width) for i in range(width // 2)]
        return _stretched(kind, plain, base, context, {n: values[n] for n in given})
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as e:
        raise BadCheckpoint(f"{keys.file}: rope type {kind!r} lacks a usable {e}.") from e


def _stretched(kind: str, plain: list[float], theta: float, context: int, values: dict[str, Any]) -> Rope:
    if kind == "linear":
        factor = float(values["factor"])
        return Rope(tuple(f / factor for f in plain))
    if kind == "llama3":
        return Rope(tuple(_llama3(plain, values)))
    if kind == "yarn":
        return _yarn(plain, theta, values)
    if kind == "longrope":
        return _longrope(plain, context, values)
    return Rope(tuple(plain))


def _llama3(plain: list[float], values: dict[str, Any]) -> list[float]:
    """Long waves are stretched, short ones left, those between blended.

    Source: the Llama 3.1 reference code, as documented with its rope_scaling keys.
    """
    factor, low, high = (float(values[n]) for n in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = int(values["original_max_position_embeddings"])
    stretched = []
    for f in plain:
        wavelength = 2 * math.pi / f
        if wavelength < trained / high:
            stretched.append(f)
        elif wavelength > trained / low:
            stretched.append(f / factor)
        else:
            blend = (trained / wavelength - low) / (high - low)
            stretched.append((1 - blend) * f / factor + blend * f)
    return stretched


def _yarn(plain: list[float], theta: float, values: dict[str, Any]) -> Rope:
    """Pairs that turn often within the trained context are left, those that turn less than once are stretched, with a
    ramp between; queries and keys grow a little.

    Source: Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023.
    """
    factor, trained = float(values["factor"]), int(values["original_max_position_embeddings"])
    width = 2 * len(plain)

    def pair_that_turns(times: float) -> float:
        return width * math.log(trained / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = pair_that_turns(float(values.get("beta_fast") or 32))
    high = pair_that_turns(float(values.get("beta_slow") or 1))
    if values.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    if low == high:
        high += 0.001
    stretched = []
    for i, f in enumerate(plain):
        ramp = min(max((i - low) / (high - low), 0.0), 1.0)
        stretched.append(ramp * f / factor + (1 - ramp) * f)

    def growth(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    size = values.get("attention_factor")
    if size is None:
        weight, weight_all = values.get("mscale"), values.get("mscale_all_dim")
        size = growth(weight) / growth(weight_all) if weight and weight_all else growth(1.0)
    return Rope(tuple(stretched), float(size))


def _longrope(plain: list[float], context: int, values: dict[str, Any]) -> Rope:
    """A factor for each pair, and another one for sequences longer than the trained context.

    Source: Ding et al., "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens", 2024.
    """
    trained = int(values.get("original_max_position_embeddings", context))
    short, long = ([float(f) for f in values[n]] for n in ("short_factor", "long_factor"))
    if not len(short) == len(long) == len(plain):
        raise ValueError(f"list of {len(plain)} factors, short and long")
    factor = float(values.get("factor", context / trained))
    size = values.get("attention_factor")
    if size is None:
        size = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))
    return Rope(
        tuple(f / s for f, s in zip(plain, short, strict=True)),
        float(size),
        tuple(f / s for f, s in zip(plain, long, strict=True)),
        trained,
    )
