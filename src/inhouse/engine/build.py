"""Puts an engine together from a base and the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from inhouse import ops
from inhouse.device import Capture, Graphs, Plain, describe
from inhouse.engine.arena import row_bytes
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
from inhouse.errors import InvalidRequest
from inhouse.model.config import ModelConfig
from inhouse.model.decoder import Decoder
from inhouse.settings import Settings
from inhouse.text.grammar import Grammars
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer

PAGE_SIZE = 16
"""Tokens a page: what a sequence wastes is half of it on average."""
SPARE_ROWS = 1 / 4
"""Rows that the arena has beyond those, so that gaps are found and hardly anything is ever moved. With adapters of
ranks 4 to 64 coming and going at random, a load moves others in 19 of 100 cases without spare rows (644 rows of 1024
at the 95th percentile), and in 1 of 100 with these."""
ADAPTER_SHARE = 0.3
"""Bytes of adapters that a step may read, as a share of the base's: so much slower they may make it."""
ADAPTER_BYTES = 64 * 2**20
"""What it may read in any case: a few milliseconds' worth, which nobody feels beside a small base."""
GUESSING_SEQUENCES = 4
"""Sequences that may guess ahead in one step: with more, a step's products are bound by arithmetic, and a token that
is read in vain costs its full price (measured on a processor)."""
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
    reuses_prefixes: bool = True,
) -> Engine:
    """An idle engine; the decoder is its own from here on. `adapter_folder` gives the folder of an adapter's digest, or
    raises NotFound; `banks` are the memories it may answer from; `room_bytes` is what the cache may take of the
    device's memory, 0 where nobody knows; without `reuses_prefixes` every prompt is read whole, as measuring wants."""
    ops.kernels.prefer(settings.kernels)
    decoder.serve(settings.quantization)
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
    rows = settings.arena_rows
    together = int(max(ADAPTER_SHARE * decoder.weight_bytes, ADAPTER_BYTES) / row_bytes(decoder))
    scheduler = Scheduler(
        pages,
        Slots(rows, together=together, most_kept=settings.most_pinned_rows),
        max_running=settings.max_running,
        token_budget=token_budget,
        base_digest=base_digest,
        reuses_prefixes=reuses_prefixes,
        rewind_above=config.rewind_above,
        guessing=_guessing(decoder.device, settings.lookup),
    )
    spare = int(rows * SPARE_ROWS)
    capture = _capture(decoder, settings.graphs)
    runner = Runner(decoder, cache, library, adapter_rows=rows + spare, capture=capture)
    return Engine(intake, scheduler, runner, base_digest=base_digest)


def _guessing(device: torch.device, setting: str) -> int:
    """In steps of how many decoding sequences guesses are tried. Captured steps read one token a sequence, so a device
    that has them is asked for it by name."""
    if setting not in ("auto", "off", "on"):
        raise InvalidRequest(f"lookup = {setting!r} is not auto, on or off.", param="lookup")
    is_wanted = setting == "on" or (setting == "auto" and device.type == "cpu")
    return GUESSING_SEQUENCES if is_wanted else 0


def _capture(decoder: Decoder, setting: str) -> Capture | None:
    """How decoding steps are made ready once and replayed; None runs each as it comes. A mixture's are never captured:
    which experts a step uses is asked of the device in the midst of it, unless its products are grouped, and nobody has
    captured those yet."""
    if setting not in ("auto", "off", "plain"):
        raise InvalidRequest(f"graphs = {setting!r} is not auto, off or plain.", param="graphs")
    if setting == "plain":
        return Plain()
    is_mixture = any(decoder.config.has_experts)
    is_able = setting == "auto" and describe(decoder.device).capabilities.graphs and not is_mixture
    return Graphs(decoder.device) if is_able else None


def _cache_tokens(config: ModelConfig, settings: Settings, room_bytes: int, item_bytes: int) -> int:
    """What the settings say, or by default as much as they explain there, if the room allows it."""
    if settings.cache_tokens:
        return settings.cache_tokens
    wanted = max(4 * config.context, settings.max_running * min(SHORT_CONTEXT, config.context))
    if not room_bytes:
        return wanted
    bytes_per_token = config.kv_bytes_per_token * item_bytes // 4  # the config counts float32
    return min(wanted, max(room_bytes // bytes_per_token, PAGE_SIZE))
