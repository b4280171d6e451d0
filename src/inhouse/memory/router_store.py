"""Where routers lie: beside a base that comes with the package, else in the data folder; made when missing.

A router is named after its base's digest, so a base that changes gets its own. It knows files and locks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from inhouse.errors import BadCheckpoint
from inhouse.memory.encoder import WordTable
from inhouse.memory.learn import DEFAULTS, LearnSettings, Progress, learn
from inhouse.memory.router import Router
from inhouse.model.decoder import Decoder
from inhouse.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

SHIPPED = "facts_router.safetensors"
"""Beside the weights of a base that comes with the package."""


def open_router(
    decoder: Decoder,
    tokenizer: Tokenizer,
    base_digest: str,
    folder: Path,
    *,
    base_folder: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    settings: LearnSettings = DEFAULTS,
) -> Router:
    """The base's router: the one it came with, the one made earlier (`folder`), or one made now and kept there.

    Two processes that make it at once make the same bytes; the last to finish replaces the other's file whole.
    """
    words = word_table(decoder, tokenizer)
    made = folder / f"{base_digest}.safetensors"
    shipped = [base_folder / SHIPPED] if base_folder is not None else []
    for file in (*shipped, made):
        if file.is_file():
            try:
                return Router.read(file, words, base_digest)
            except BadCheckpoint as stale:
                log.warning("%s", stale.message)
                if file == made:
                    with contextlib.suppress(OSError):
                        file.unlink()
    router = None
    with one_thread():
        for step in learn(words, settings):
            if progress is not None:
                progress(step)
            router = step.router or router
    assert router is not None, "learning ends with a router"
    router.write(made, base_digest)
    return router


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Small products gain nothing from a second thread, and on a busy machine lose much by waiting for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def word_table(decoder: Decoder, tokenizer: Tokenizer) -> WordTable:
    """The base's embeddings of words."""
    return WordTable(decoder.embedding, lambda text: tokenizer.encode(text, special=False))
