"""Drills for the first steps: saying a random sequence again, and looking values up under their keys.

Reading is looking up and copying; both come late and slowly when only questions teach them, and early when nearly
every token of an example asks for them. Drills are the training side's alone and are no ability of their own.
"""

from __future__ import annotations

import random

from inhouse.data.examples import Example
from inhouse.text.tokenizer import Tokenizer
from recipes.seedling.writer import Writer


def echo(source: random.Random, vocabulary: range) -> Example:
    """Random tokens, then the same ones again: only the repetitions are trained."""
    length = source.randint(3, 24)
    ids = source.choices(vocabulary, k=length) * source.randint(2, 4)
    return Example(tuple(ids), tuple(i >= length for i in range(len(ids))))


def lookup(writer: Writer, tokenizer: Tokenizer, source: random.Random) -> Example:
    """Keys with their values, then the keys in another order: the values of this second list are trained."""
    writer.begin(source)
    makes = (Writer.word, Writer.person, Writer.company, Writer.product, Writer.code)
    key = writer.one(makes)
    value = writer.one((*makes, Writer.money, Writer.date, Writer.count))
    between = writer.one((": ", " has ", " - ", " is ", " = ", ", "))
    pairs = {key(writer): value(writer) for _ in range(writer.number(1, 6))}
    ids: list[int] = []
    trained: list[bool] = []
    for is_recall in (False, True, True):
        for name in writer.shuffled(list(pairs)):
            for text, is_trained in (
                (name + between.rstrip(), False),
                (_tail(between) + pairs[name] + "\n", is_recall),
            ):
                piece = tokenizer.encode(text, special=False)
                ids += piece
                trained += [is_trained] * len(piece)
    return Example(tuple(ids), tuple(trained))


def _tail(between: str) -> str:
    return between[len(between.rstrip()) :]
