"""Where a leg's steps come from: made as they are read, or ahead of that by other processes. It trains nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from inhouse.data.loader import Source
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from recipes.seedling.ahead import Ahead
from recipes.seedling.plan import Leg, Plan
from recipes.seedling.stream import Stream, pieces

MOST_MAKERS = 16
"""A maker writes 140,000 tokens a second and more."""


def usual_makers(device_type: str) -> int:
    """How many processes write the stream ahead. None on a CPU: its cores are the model's, and writing takes a
    fiftieth of the time."""
    if device_type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_MAKERS, cores - 2))


@contextmanager
def opened(folder: Path, plan: Plan, leg: Leg, corpus: Path, *, makers: int) -> Iterator[Source]:
    """What a leg of this folder's run trains on."""
    if not makers:
        yield stream(folder, plan, leg, corpus)
        return
    stream(folder, plan, leg, corpus)  # the cache is written once, here
    ahead = Ahead(partial(stream, folder, plan, leg, corpus), leg.steps, processes=makers)
    try:
        yield ahead
    finally:
        ahead.close()


def stream(folder: Path, plan: Plan, leg: Leg, corpus: Path) -> Stream:
    """The same in this process. It lies outside `__main__`, which other processes could not import it from."""
    tokenizer = Tokenizer.load(folder / "base")
    return Stream(
        pieces(corpus, tokenizer, held_out=False, cache=folder / "cache"),
        tokenizer,
        ChatTemplate.load(folder / "base", tokenizer),
        steps=leg.steps,
        step_tokens=plan.step_tokens,
        seed=leg.seed,
        mixture=leg.mixture,
        is_later=leg.is_later,
    )
