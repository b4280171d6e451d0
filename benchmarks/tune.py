"""Our training loop against HF Trainer with PEFT: the same model, rows, order, adapter and schedule, on one core.

    python -m benchmarks.tune [--repeats 5] [--steps 10] [--batch 4] [--core N]

The model is Llama-style, 34M parameters with random weights; LoRA of rank 8 on every linear layer begins at the same
numbers in every arm. Rows are of varied lengths and about half of their tokens carry loss. Each arm is a process
that stays; arms take turns, one works at a time, and a first short run of each is not counted. A repeat is a whole
run: loop or `Trainer.train()`, from loaded weights to the last step. Only real tokens count, never padding.

Gate: house and peer begin with the same loss, in bfloat16 and in float32, or nothing is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.core import pin
from benchmarks.results import command, machine, spread, write

OURS = "house, bfloat16"
"""In the format that the worker would choose on a CPU that multiplies bfloat16; adapters are float32 everywhere."""
PADDED = "HF Trainer + PEFT, bfloat16"
ONE_BY_ONE = "HF Trainer + PEFT, bfloat16, one row at a time"
"""The peer's way around padding: a batch of one, and as many accumulated as a step has rows."""
PEERS = (PADDED, ONE_BY_ONE)
EXACT = ("house, float32", "HF Trainer + PEFT, float32")
"""For the gate alone: there the two should agree to the last digits."""
MODEL: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1920,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
SHORTEST, LONGEST = 24, 512
RANK, ALPHA, RATE, WARMUP, CLIP = 8, 16.0, 2e-3, 2, 1.0
GATE = 1e-3
MAX_WALL_PER_CPU = 1.1
TRIES = 3


@dataclass(frozen=True, slots=True)
class Work:
    """Where model, adapter and rows lie, and how much of them a run takes."""

    folder: str
    batch: int
    steps: int


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of an arm came to."""

    losses: list[float]
    tokens: int
    cpu_s: float
    wall_s: float
    peak_mb: float


Prepare = Callable[[int], Callable[[], list[float]]]
"""Makes a run of so many steps ready, with a fresh adapter. What it returns is timed: it trains and returns losses."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4, help="rows a step")
    parser.add_argument("--core", type=int, help="the one that everything runs on; default: the last")
    options = parser.parse_args()
    core = pin(options.core)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(folder, options.batch, options.steps)
        facts = prepare(work)
        exact = check({name: one_run(name, work, steps=3) for name in EXACT})
        arms = {name: Arm(name, work) for name in (OURS, *PEERS)}
        try:
            gate = exact | check({name: arm.run(2) for name, arm in arms.items()})
            runs: dict[str, list[Run]] = {name: [] for name in arms}
            rejected: list[dict[str, object]] = []
            for repeat in range(options.repeats):
                for name, arm in arms.items():
                    runs[name].append(quiet_run(arm, options.steps, f"{name}, {repeat}", rejected))
        finally:
            for arm in arms.values():
                arm.end()
    found: dict[str, Any] = {
        "machine": machine("transformers", "peft", "accelerate"),
        "command": command("benchmarks.tune"),
        "core": core,
        "model": facts,
        "first_losses": gate,
        "losses_apart": apart(runs),
        "rejected": rejected,
        "runs": {name: [asdict(run) for run in each] for name, each in runs.items()},
        "rows": rows(runs),
    }
    write("tune", found)


# ── what all arms are given ───────────────────────────────────────────────────────────────────────────────


def prepare(work: Work) -> dict[str, Any]:
    """Writes base, adapter and rows, and says what they are."""
    import torch

    from inhouse.model.adapters import TrainedLora
    from inhouse.model.build import checkpoint_tensors, fresh
    from inhouse.model.config import ModelConfig
    from inhouse.model.weights import write_tensors

    folder = Path(work.folder)
    (folder / "config.json").write_text(json.dumps(MODEL))
    config = ModelConfig.load(folder)
    decoder = fresh(config, seed=1)
    tensors = {name: tensor.contiguous().clone() for name, tensor in checkpoint_tensors(decoder)}
    write_tensors(tensors, folder / "model.safetensors")
    lora = TrainedLora(decoder, rank=RANK, alpha=ALPHA, seed=0)
    lora.adapter().write(folder / "adapter", config, base="base")

    generator = torch.Generator().manual_seed(2)
    # Lengths as questions and answers have them: most are short, a few long. Tokens as text has them (Zipf's
    # law), so that there is something to learn.
    spreads = torch.randn(work.batch * work.steps, generator=generator)
    lengths = (120 * torch.exp(0.8 * spreads)).long().clamp(SHORTEST, LONGEST)
    often = 1 / torch.arange(1, config.vocab_size + 1, dtype=torch.float64)
    examples = []
    for length in lengths.tolist():
        ids = torch.multinomial(often, length, replacement=True, generator=generator).tolist()
        share = 0.3 + 0.4 * float(torch.rand(1, generator=generator))
        examples.append({"ids": ids, "prompt": max(1, round(length * share))})
    (folder / "rows.json").write_text(json.dumps(examples))
    tokens = int(lengths.sum())
    padded = sum(
        work.batch * int(lengths[i : i + work.batch].max()) for i in range(0, len(lengths), work.batch)
    )
    return {
        "parameters": decoder.parameters,
        "trained_parameters": sum(tensor.numel() for _, tensor in lora.named_tensors()),
        "rows": len(examples),
        "tokens": tokens,
        "tokens_with_loss": sum(len(e["ids"]) - e["prompt"] for e in examples),
        "tokens_padded": padded,
    }


def house(work: Work, dtype: str) -> Prepare:
    """The loop that the worker runs."""
    import torch

    from inhouse.data.examples import Example
    from inhouse.model.adapters import TrainedLora
    from inhouse.model.weights import load_base
    from inhouse.tune.loop import train
    from inhouse.tune.recipe import Recipe

    examples = [
        Example(tuple(row["ids"]), tuple(i >= row["prompt"] for i in range(len(row["ids"]))))
        for row in _rows(work)
    ]
    decoder = load_base(Path(work.folder), dtype=getattr(torch, dtype))

    @dataclass(frozen=True)
    class InOrder:
        steps: int

        def at(self, step: int) -> Sequence[Example]:
            return examples[step * work.batch : (step + 1) * work.batch]

    def prepare(steps: int) -> Callable[[], list[float]]:
        recipe = Recipe(
            method="lora",
            epochs=1,
            batch_size=work.batch,
            learning_rate=RATE,
            warmup_steps=WARMUP,
            rank=RANK,
            alpha=ALPHA,
            weight_decay=0.0,
            clip=CLIP,
            checkpoint_every=steps + 1,
            seed=0,
        )
        lora = TrainedLora(decoder, rank=RANK, alpha=ALPHA, seed=0)
        return lambda: [step.loss for step in train(decoder, lora, InOrder(steps), recipe)]

    return prepare


def peer(work: Work, dtype: str, rows_at_once: int) -> Prepare:
    """HF Trainer with PEFT: as many rows at once as said, padded to the longest, and accumulated to a step."""
    import peft
    import torch
    import transformers
    from torch.utils.data import SequentialSampler

    from inhouse.tune.optim import BETAS, EPS, learning_rate

    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    examples = _rows(work)

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(row["ids"]) for row in some)
        tokens = torch.zeros(len(some), longest, dtype=torch.int64)
        mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, -100)
        for i, row in enumerate(some):
            ids = torch.tensor(row["ids"])
            tokens[i, : len(ids)], mask[i, : len(ids)] = ids, 1
            labels[i, row["prompt"] : len(ids)] = ids[row["prompt"] :]
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: object) -> SequentialSampler:
            return SequentialSampler(examples)

    def prepare(steps: int) -> Callable[[], list[float]]:
        base = transformers.AutoModelForCausalLM.from_pretrained(work.folder, dtype=getattr(torch, dtype))
        model = peft.PeftModel.from_pretrained(base, Path(work.folder) / "adapter", is_trainable=True)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, steps, peak=RATE, warmup=WARMUP) / RATE
        )
        arguments = transformers.TrainingArguments(
            output_dir=str(Path(work.folder) / "peer"),
            use_cpu=True,
            per_device_train_batch_size=rows_at_once,
            gradient_accumulation_steps=work.batch // rows_at_once,
            max_steps=steps,
            max_grad_norm=CLIP,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = InOrder(
            model=model,
            args=arguments,
            data_collator=collate,
            train_dataset=examples,
            optimizers=(optimizer, schedule),
        )
        trainer.remove_callback(transformers.PrinterCallback)

        def run() -> list[float]:
            trainer.train()
            return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]

        return run

    return prepare


def _rows(work: Work) -> list[dict[str, Any]]:
    return list(json.loads((Path(work.folder) / "rows.json").read_text()))


# ── arms ──────────────────────────────────────────────────────────────────────────────────────────────────


class Arm:
    """One way to train, in a process of its own, so that its memory is its own."""

    def __init__(self, name: str, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self._wire, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, work, far), daemon=True)
        self._process.start()
        far.close()
        self._wire.recv()  # it is ready

    def run(self, steps: int) -> Run:
        self._wire.send(steps)
        found = self._wire.recv()
        assert isinstance(found, Run)
        return found

    def end(self) -> None:
        self._wire.close()
        self._process.join()


def one_run(name: str, work: Work, steps: int) -> Run:
    """A run in a process that ends with it."""
    arm = Arm(name, work)
    try:
        return arm.run(steps)
    finally:
        arm.end()


def _serve(name: str, work: Work, wire: Connection) -> None:
    """Runs what it is told, until nobody is there to tell."""
    import torch

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    trainer, dtype, *_ = name.split(", ")
    rows_at_once = 1 if name == ONE_BY_ONE else work.batch
    prepare = house(work, dtype) if trainer == "house" else peer(work, dtype, rows_at_once)
    wire.send("ready")
    while True:
        try:
            steps = wire.recv()
        except EOFError:
            return
        run = prepare(steps)
        began, cpu = time.perf_counter(), time.process_time()
        losses = run()
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
        assert len(losses) == steps, f"{name} made {len(losses)} steps instead of {steps}"
        tokens = sum(len(row["ids"]) for row in _rows(work)[: steps * work.batch])
        wire.send(Run(losses, tokens, cpu_s, wall_s, _peak_mb()))
        del run  # or the next run's model would be held beside this one's
        gc.collect()


def _peak_mb() -> float:
    """The most memory this process has held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError("this system does not say how much memory a process has held")


# ── judging ───────────────────────────────────────────────────────────────────────────────────────────────


def check(first: dict[str, Run]) -> dict[str, list[float]]:
    """The gate; returns each arm's losses."""
    losses = {name: run.losses for name, run in first.items()}
    begun = [each[0] for each in losses.values()]
    if max(begun) - min(begun) > GATE:
        raise SystemExit(f"The first losses are not the same: {losses}. Nothing was measured.")
    return losses


def quiet_run(arm: Arm, steps: int, what: str, rejected: list[dict[str, object]]) -> Run:
    """A run whose wall time is nearly its CPU time; others are done again, and noted."""
    for attempt in range(1, TRIES + 1):
        run = arm.run(steps)
        if run.wall_s <= MAX_WALL_PER_CPU * run.cpu_s:
            break
        ratio = round(run.wall_s / run.cpu_s, 2)
        rejected.append({"run": what, "wall_per_cpu": ratio, "kept": attempt == TRIES})
    return run


def apart(runs: dict[str, list[Run]]) -> dict[str, float]:
    """How far each peer's curve of losses is ever from ours."""
    ours = runs[OURS][0].losses
    return {name: max(abs(a - b) for a, b in zip(ours, runs[name][0].losses, strict=True)) for name in PEERS}


def rows(runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """The table: speed and memory of each arm, and ours over the best peer's, repeat by repeat."""
    speeds = {name: [run.tokens / run.cpu_s for run in each] for name, each in runs.items()}
    peaks = {name: max(run.peak_mb for run in each) for name, each in runs.items()}
    fastest = max(PEERS, key=lambda name: median(speeds[name]))
    leanest = min(peaks[name] for name in PEERS)

    def over(peer: str) -> list[float]:
        return [ours / theirs for ours, theirs in zip(speeds[OURS], speeds[peer], strict=True)]

    return [
        *(spread(f"{name}: real tokens", each, "a CPU-second") for name, each in speeds.items()),
        spread(f"{OURS}, over {PADDED}: speed", over(PADDED), "times"),
        spread(f"{OURS}, over the fastest peer: speed", over(fastest), "times", at_least=4),
        *(spread(f"{name}: peak memory of the process", [peak], "MB") for name, peak in peaks.items()),
        spread(f"{OURS}, over the leaner peer: peak memory", [peaks[OURS] / leanest], "times", at_most=0.33),
    ]


if __name__ == "__main__":
    main()
