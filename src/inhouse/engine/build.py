"""Puts an engine together from a base and the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inhouse.engine.cache import Cache
from inhouse.engine.engine import Engine
from inhouse.engine.intake import Intake
from inhouse.engine.library import Library
from inhouse.engine.memory import Banks, Memory
from inhouse.engine.pages import Pages
from inhouse.engine.proof import Proof
from inhouse.engine.runner import Runner
from inhouse.engine.scheduler import TOKEN_BUDGET, Scheduler
from inhouse.engine.slots import Slots
from inhouse.model.config import ModelConfig
from inhouse.model.decoder import Decoder
from inhouse.settings import Settings
from inhouse.text.grammar import Grammars
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer

PAGE_SIZE = 16
"""Tokens a page: what a sequence wastes is half of it on average."""
ADAPTER_SLOTS = 64
"""Adapters resident at once: twice what the default max_running can use in one step."""
SHORT_CONTEXT = 512
"""Tokens of a short conversation, for the default size of the cache."""


def build(
    decoder: Decoder,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    base_digest: str,
    adapter_folder: Callable[[str], Path],
    settings: Settings,
    banks: Banks | None = None,
    room_bytes: int = 0,
    token_budget: int = TOKEN_BUDGET,
    adapter_slots: int = ADAPTER_SLOTS,
) -> Engine:
    """An idle engine; the decoder is its own from here on. `adapter_folder` gives the folder of an adapter's digest, or
    raises NotFound; `banks` are the memories it may answer from; `room_bytes` is what the cache may take of the
    device's memory, 0 where nobody knows."""
    decoder.lay_out_for_few_rows()
    config = decoder.config
    pages = Pages(
        -(-_cache_tokens(config, settings, room_bytes, decoder.dtype.itemsize) // PAGE_SIZE), PAGE_SIZE
    )
    cache = Cache(config, pages.count, PAGE_SIZE, device=decoder.device, dtype=decoder.dtype)
    library = Library(
        adapter_folder, decoder, base_digest, expert_of=None if banks is None else banks.source.expert
    )
    stop_ids = tokenizer.eos_ids | template.stop_ids | frozenset(config.eos_ids)
    intake = Intake(
        tokenizer,
        template,
        library,
        limit=min(config.context, pages.capacity),
        vocab_size=config.vocab_size,
        stop_ids=stop_ids,
        grammars=Grammars(tokenizer, config.vocab_size, stop_ids, shown=template.calls.written),
        memory=None if banks is None else Memory(banks, library),
        proof=Proof(decoder, library),
    )
    scheduler = Scheduler(
        pages, Slots(adapter_slots), max_running=settings.max_running, token_budget=token_budget
    )
    return Engine(intake, scheduler, Runner(decoder, cache, library), base_digest=base_digest)


def _cache_tokens(config: ModelConfig, settings: Settings, room_bytes: int, item_bytes: int) -> int:
    """What the settings say, or by default as much as they explain there, if the room allows it."""
    if settings.cache_tokens:
        return settings.cache_tokens
    wanted = max(4 * config.context, settings.max_running * min(SHORT_CONTEXT, config.context))
    if not room_bytes:
        return wanted
    bytes_per_token = config.kv_bytes_per_token * item_bytes // 4  # the config counts float32
    return min(wanted, max(room_bytes // bytes_per_token, PAGE_SIZE))
