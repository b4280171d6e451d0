"""Scores a base on the world's held-out side, ability by ability: the share of replies that are exactly right.

    python -m recipes.seedling.evaluate FOLDER --items 1000 --corpus PATH [--json FILE] [--keep]

`exact_by_generating` is the measure: ask, and compare. `exact_by_reading` gives the same verdicts many times
faster, in one pass over prompt and wanted reply: greedy decoding writes a reply exactly when each of its tokens
is the likeliest after those before it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks import results
from inhouse.data.examples import Example
from inhouse.data.pack import pack, split
from inhouse.device import pick
from inhouse.model.decoder import Decoder, greedy
from inhouse.model.layers import Packed
from inhouse.model.weights import load_base
from inhouse.schema import Message
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.validation import evaluate
from recipes.seedling.speed import decode_speed
from recipes.seedling.stream import Pieces, pieces
from recipes.seedling.world import ABILITIES, Conversation, conversations
from recipes.seedling.writer import Side

Generate = Callable[[Sequence[Message]], str]
"""A model, as somebody who asks it sees it."""

FIGURES = {
    "answer": 0.95,
    "lacks": 0.95,
    "unknown": 0.98,
    "extract": 0.90,
    "classify": 0.85,
    "sums": 0.60,
    "count": 0.60,
    "compare": 0.60,
    "follow_up": 0.85,
}
"""What the base is wanted to reach, as shares of exact replies; other abilities are reported."""
DECODE_FIGURE = 300

EVALUATION_SEED = 20_011
MICRO_TOKENS = 8192


def items(
    ability: str, count: int, seed: int = EVALUATION_SEED, *, side: Side = "test"
) -> list[Conversation]:
    """Conversations of one ability, held-out ones unless told, the same in every run."""
    return list(itertools.islice(conversations(seed, side, ability), count))


def exact_by_generating(generate: Generate, asked: Sequence[Conversation]) -> list[bool]:
    """For each conversation, whether the model's reply is the wanted one, letter for letter."""
    return [generate(c.prompt).strip() == c.answer for c in asked]


def exact_by_reading(decoder: Decoder, template: ChatTemplate, asked: Sequence[Conversation]) -> list[bool]:
    """The verdicts of greedy decoding, without decoding."""
    verdicts: list[bool] = []
    for run in split([_last_reply(template, c) for c in asked], MICRO_TOKENS):
        batch = pack(run).to(decoder.device)
        with torch.no_grad():
            hidden = decoder.forward(batch.tokens, batch.positions, Packed(batch.lengths), None, batch.rows)
            is_right = (decoder.logits(hidden).argmax(-1) == batch.targets).tolist()
        for example in run:
            verdicts.append(all(is_right[: example.loss_tokens]))
            del is_right[: example.loss_tokens]
    return verdicts


def generator(
    decoder: Decoder, tokenizer: Tokenizer, template: ChatTemplate, *, max_new_tokens: int = 200
) -> Generate:
    """A decoder as `Generate`, by the plain loop: slow, and the specification of `exact_by_reading`."""

    def generate(messages: Sequence[Message]) -> str:
        reply = greedy(decoder, template.prompt(messages), max_new_tokens, stop=template.stop_ids)
        return tokenizer.decode(reply)

    return generate


def abilities(decoder: Decoder, template: ChatTemplate, count: int, side: Side = "test") -> dict[str, float]:
    """The share of exact replies for each ability."""
    scores = {}
    for name in ABILITIES:
        verdicts = exact_by_reading(decoder, template, items(name, count, side=side))
        scores[name] = sum(verdicts) / len(verdicts)
    return scores


def bits_per_byte(
    decoder: Decoder, tokenizer: Tokenizer, text: Pieces, *, max_pieces: int | None = None
) -> float:
    """How many bits the model needs for a byte of text that it has not seen; each piece's first token is given."""
    examples = [text[i] for i in range(min(len(text), max_pieces or len(text)))]
    nats = evaluate(decoder, None, examples, micro_tokens=MICRO_TOKENS).loss * sum(
        e.loss_tokens for e in examples
    )
    size = sum(len(tokenizer.token_bytes(t)) for e in examples for t in e.ids[1:])
    return nats / math.log(2) / size


@dataclass(frozen=True, slots=True)
class Scores:
    """All that one evaluation found of a base."""

    items: int
    """Conversations asked for each ability."""
    exact: dict[str, float]
    bits_per_byte: float
    """On all held-out text."""
    tokens_per_s: float
    """Written by the engine on one core of the CPU, one request at a time."""


def score(folder: Path, count: int, corpus: Path, *, device: str = "auto") -> Scores:
    """Everything of a finished base, from its files, computed in float32; the speed in what it is served in."""
    decoder = load_base(folder, device=pick(device).torch_device, dtype=torch.float32)
    tokenizer = Tokenizer.load(folder)
    text = pieces(corpus, tokenizer, held_out=True)
    return Scores(
        items=count,
        exact=abilities(decoder, ChatTemplate.load(folder, tokenizer), count),
        bits_per_byte=bits_per_byte(decoder, tokenizer, text),
        tokens_per_s=decode_speed(folder),
    )


def table(scores: Scores) -> str:
    """Scores in Markdown beside their figures, with standard errors, so that nobody reads noise as progress."""
    lines = ["| on the held-out side | measured | ± | figure |", "|---|---|---|---|"]
    for name, share in scores.exact.items():
        error = math.sqrt(max(share * (1 - share), 1e-9) / scores.items)
        figure = _figure(share, FIGURES[name], f"{FIGURES[name]:.0%}") if name in FIGURES else ""
        lines.append(f"| {name} | {share:.1%} | {error:.1%} | {figure} |")
    lines.append(f"| bits per byte of text | {scores.bits_per_byte:.3f} | | |")
    speed = _figure(scores.tokens_per_s, DECODE_FIGURE, f"{DECODE_FIGURE} tokens/s")
    lines.append(f"| decoding, one core, one request | {scores.tokens_per_s:.0f} tokens/s | | {speed} |")
    return "\n".join(lines)


def _figure(measured: float, wanted: float, text: str) -> str:
    return f"at least {text}: {'met' if measured >= wanted else '**missed**'}"


def keep(scores: Scores) -> None:
    """Puts the scores among the benchmarks' results."""
    rows = [
        results.spread(name, [100 * share], "%", at_least=100 * FIGURES[name] if name in FIGURES else None)
        for name, share in scores.exact.items()
    ]
    rows.append(results.spread("bits per byte of held-out text", [scores.bits_per_byte], "bits"))
    rows.append(
        results.spread(
            "decoding, one core, one request", [scores.tokens_per_s], "tokens/s", at_least=DECODE_FIGURE
        )
    )
    found = {"command": results.command("recipes.seedling.evaluate"), "machine": results.machine()}
    results.write("seedling", {**found, "items": scores.items, "rows": rows})


def _last_reply(template: ChatTemplate, conversation: Conversation) -> Example:
    """A conversation of which only the last reply counts."""
    ids, trained = template.example(conversation.messages)
    asked = len(template.prompt(conversation.prompt))
    return Example(tuple(ids), tuple(t and i >= asked for i, t in enumerate(trained)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Scores a base on the held-out side of the seedling's world."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=1000, help="conversations for each ability")
    parser.add_argument("--corpus", type=Path, required=True, help="bits per byte on its held-out part")
    parser.add_argument("--json", type=Path, help="write the scores to this file, too")
    parser.add_argument("--keep", action="store_true", help="put them into benchmarks/RESULTS.md, too")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--train-side", action="store_true", help="in training's wordings and names: only that table"
    )
    options = parser.parse_args()

    if options.train_side:
        decoder = load_base(options.folder, device=pick(options.device).torch_device, dtype=torch.float32)
        template = ChatTemplate.load(options.folder, Tokenizer.load(options.folder))
        for name, share in abilities(decoder, template, options.items, "train").items():
            print(f"{name} {share:.1%}")
        return
    scores = score(options.folder, options.items, options.corpus, device=options.device)
    print(table(scores))
    if options.json:
        options.json.write_text(json.dumps(asdict(scores), indent=2) + "\n", encoding="utf-8")
    if options.keep:
        keep(scores)


if __name__ == "__main__":
    main()
