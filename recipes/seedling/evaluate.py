"""Scores a base on the world's held-out side, ability by ability: the share of replies that are exactly right.

    python -m recipes.seedling.evaluate FOLDER --items 1000 [--corpus PATH] [--json FILE]

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
from pathlib import Path

import torch

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
from recipes.seedling.stream import Pieces, pieces
from recipes.seedling.world import ABILITIES, Conversation, conversations

Generate = Callable[[Sequence[Message]], str]
"""A model, as somebody who asks it sees it."""

EVALUATION_SEED = 20_011
MICRO_TOKENS = 8192


def items(ability: str, count: int, seed: int = EVALUATION_SEED) -> list[Conversation]:
    """Held-out conversations of one ability, the same ones in every run."""
    return list(itertools.islice(conversations(seed, "test", ability), count))


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


def abilities(decoder: Decoder, template: ChatTemplate, count: int) -> dict[str, float]:
    """The share of exact replies for each ability."""
    scores = {}
    for name in ABILITIES:
        verdicts = exact_by_reading(decoder, template, items(name, count))
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


def table(scores: dict[str, float], count: int) -> str:
    """Scores in Markdown, each with its standard error, so that nobody reads noise as progress."""
    lines = ["| ability | exact | ± |", "|---|---|---|"]
    for name, share in scores.items():
        error = math.sqrt(max(share * (1 - share), 1e-9) / count)
        lines.append(f"| {name} | {share:.1%} | {error:.1%} |")
    return "\n".join(lines)


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
    parser.add_argument("--corpus", type=Path, help="also bits per byte on the held-out part of this corpus")
    parser.add_argument("--json", type=Path, help="write the scores to this file, too")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    device = pick(options.device)
    decoder = load_base(options.folder, device=device.torch_device, dtype=torch.float32)
    tokenizer = Tokenizer.load(options.folder)
    template = ChatTemplate.load(options.folder, tokenizer)
    scores = abilities(decoder, template, options.items)
    result: dict[str, object] = {"items": options.items, "exact": scores}
    print(table(scores, options.items))
    if options.corpus:
        result["bits_per_byte"] = bits_per_byte(
            decoder, tokenizer, pieces(options.corpus, tokenizer, held_out=True)
        )
        print(f"\nBits per byte on held-out text: {result['bits_per_byte']:.3f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
