"""The model card: what the base is, how it came to be, how it scores, and what it cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inhouse.model.decoder import Decoder
from recipes.seedling.evaluate import DECODE_FIGURE, FIGURES, Scores, table

WEAK = 0.5
"""Below this share of exact replies the card says that the base cannot do it."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a base was trained, for its card."""

    command: str
    corpus: str
    sources: tuple[str, ...]
    tokens: int
    steps: int
    seconds: float
    peak_share: float
    """Mean share of what the machine's matrix units can do, as measured when the run began."""
    hardware: str
    dtype: str
    seed: int


def write(
    folder: Path,
    decoder: Decoder,
    training: Training,
    *,
    scores: Scores,
    curve: list[dict[str, Any]],
    curve_items: int,
    samples: list[tuple[str, str]],
) -> None:
    """folder/README.md."""
    c = decoder.config
    text = f"""---
license: apache-2.0
language: en
library_name: inhouse
---
# Seedling
A small language model that ships with Inhouse, so that tuning and serving can be shown on a machine without a
network. It keeps a chat's form, says when it does not know, and takes to new facts by tuning; how well it reads and
reckons by itself, the scores below say.

| | |
|---|---|
| kind | Llama-style decoder, {decoder.parameters / 1e6:.1f} million parameters, bfloat16 |
| shape | width {c.width}, {c.layers} layers, {c.heads} heads of {c.head_width} ({c.kv_heads} for keys and values), \
MLP {c.mlp_width}, tied embeddings |
| tokens | byte-level BPE of {c.vocab_size}, trained for it; context {c.context} |
| language | English |

## How it came to be
Trained from nothing by `recipes/seedling`, with Inhouse's own training loop: no other model's weights or
outputs went into it.

- Text: {training.corpus}, public domain (CC0 1.0): {", ".join(training.sources)}. Two per cent of its documents
  were held out.
- Conversations: an endless world of invented companies, people and products, written by the generator in the
  recipe. They never repeat.
- {training.tokens:,} tokens in {training.steps:,} steps, seed {training.seed}, computed in {training.dtype};
  {training.seconds / 3600:.1f} hours on {training.hardware}, at {training.peak_share:.0%} of its measured matrix peak.
- Again: `{training.command}`

## Scores
On names and wordings that training never showed, greedy, {scores.items} questions for each ability, exact to the
letter. Numbers, dates, codes, closed lists such as weekdays, most keys of the JSON and a third of the labels are open
to both sides. By `python -m recipes.seedling.evaluate FOLDER --items {scores.items} --corpus {training.corpus}`.

{table(scores)}

### Learning curve
{curve_items} questions for each ability at each point.

{_curve(curve)}

## Three conversations, unedited
{_samples(samples)}

## What it cannot do
{_missed(scores)}

It knows almost nothing of the real world, writes no essays, does not reason over several steps, and speaks only
English. What it gets wrong it says as surely as what it gets right. It is there to be tuned and to test a platform
with, not to be relied on.
"""
    (folder / "README.md").write_text(text, encoding="utf-8")


def _missed(scores: Scores) -> str:
    """The shortfalls in words, the worst first."""
    ranked = sorted(scores.exact.items(), key=lambda scored: scored[1])
    missed = [
        f"{name} ({share:.0%}, wanted {FIGURES[name]:.0%})"
        for name, share in ranked
        if share < FIGURES.get(name, 0)
    ]
    weak = [f"{name} ({share:.0%})" for name, share in ranked if share < WEAK]
    if scores.tokens_per_s < DECODE_FIGURE:
        missed.append(f"decoding ({scores.tokens_per_s:.0f} tokens/s, wanted {DECODE_FIGURE})")
    sentences = [
        f"More often than not it fails at: {', '.join(weak)}." if weak else "",
        f"It misses its figure for: {', '.join(missed)}."
        if missed
        else "It reaches every figure it was made for.",
    ]
    return "\n".join(s for s in sentences if s)


def _curve(curve: list[dict[str, Any]]) -> str:
    if not curve:
        return "Not measured."
    names = list(curve[0]["exact"])
    lines = [
        "| million tokens | bits per byte | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for point in curve:
        shares = " | ".join(f"{point['exact'][n]:.0%}" for n in names)
        lines.append(f"| {point['tokens'] / 1e6:.1f} | {point['bits_per_byte']:.2f} | {shares} |")
    return "\n".join(lines)


def _samples(samples: list[tuple[str, str]]) -> str:
    quoted = []
    for asked, reply in samples:
        quoted.append(
            "\n".join(
                f"> {line}".rstrip() for line in f"**Asked:** {asked}\n\n**Replied:** {reply}".split("\n")
            )
        )
    return "\n\n<!-- -->\n\n".join(quoted)
