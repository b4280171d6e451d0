"""How fast a base writes: the engine's own decoding of one request on one core. It knows nothing of right answers."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from inhouse.device import pick
from inhouse.engine.build import build
from inhouse.engine.engine import Engine
from inhouse.errors import NotFound
from inhouse.model.weights import folder_digest, load_base
from inhouse.schema import EngineRequest, Sampling
from inhouse.settings import Settings
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.worker.base import serving_dtype

PROMPT = "The office opens at nine. Please write down what everybody should know about it."
NEW_TOKENS = 256
ROUNDS = 3


def decode_speed(folder: Path) -> float:
    """Tokens a second after the first one, for one request, on one core of the CPU: the best of a few rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        engine = _engine(folder)
        return max(_round(engine, f"round-{i}") for i in range(ROUNDS + 1))
    finally:
        torch.set_num_threads(threads)


def _engine(folder: Path) -> Engine:
    device = pick("cpu")
    decoder = load_base(folder, device=device.torch_device, dtype=serving_dtype(folder, device, "auto"))
    tokenizer = Tokenizer.load(folder)
    return build(
        decoder,
        tokenizer,
        ChatTemplate.load(folder, tokenizer),
        base_digest=folder_digest(folder),
        adapter_folder=_no_adapter,
        settings=Settings(),
    )


def _no_adapter(digest: str) -> Path:
    raise NotFound(f"There is no adapter {digest}.")


def _round(engine: Engine, name: str) -> float:
    never = dict.fromkeys(engine.intake.stop_ids, -100.0)
    sampling = Sampling(temperature=0.0, max_new_tokens=NEW_TOKENS, logit_bias=never)
    engine.add(engine.intake.prepare(EngineRequest(id=name, prompt=PROMPT, sampling=sampling), name))
    engine.step()
    began = time.perf_counter()
    while engine.has_work:
        engine.step()
    return (NEW_TOKENS - 1) / (time.perf_counter() - began)
