"""Makes the embedded base, from a corpus of text to a finished folder.

    python -m recipes.seedling --corpus PATH --out FOLDER --tokens 30000000 [--threads 2]

Tokenizer, model, training, scores, export, card. Killed at any moment, the same command goes on where it was;
what it needs for that lies in FOLDER.run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from inhouse.device import matrix_peak, pick
from inhouse.device.device import Device
from inhouse.model.decoder import Decoder
from inhouse.model.weights import load_base, save_base
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.checkpoint import Checkpoints
from inhouse.tune.loop import Step, train
from inhouse.tune.recipe import Recipe
from recipes.seedling import card, evaluate, model
from recipes.seedling import tokenizer as bpe
from recipes.seedling.ahead import Ahead
from recipes.seedling.corpus import sources
from recipes.seedling.stream import Mixture, Stream, pieces


@dataclass(frozen=True, slots=True)
class Plan:
    """Every number of a run that decides its result. Kept with the run, so that a restart cannot mix two."""

    tokens: int
    seed: int = 1
    step_tokens: int = 8192
    """Few enough for thousands of updates from a small budget of tokens."""
    learning_rate: float = 4e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    text_first: float = 0.3
    text_last: float = 0.12
    drills_first: float = 0.4
    drills_until: float = 0.12
    short_until: float = 0.12
    long_from: float = 0.8
    whole_until: float = 0.4
    muon: int = 1
    primed: int = 1
    curve_points: int = 16
    items: int = 60
    """Held-out conversations for each ability at every point of the curve."""

    @property
    def steps(self) -> int:
        return math.ceil(self.tokens / self.step_tokens)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            method="full",
            epochs=1,
            batch_size=1,
            learning_rate=self.learning_rate,
            warmup_steps=min(self.warmup_steps, max(1, self.steps // 10)),
            rank=0,
            alpha=0.0,
            weight_decay=self.weight_decay,
            clip=1.0,
            checkpoint_every=max(1, min(200, self.steps // 10)),
            seed=self.seed,
            micro_tokens=max(4096, self.step_tokens // math.ceil(self.step_tokens / 8192)),
            optimizer="muon" if self.muon else "adamw",
            betas=(0.9, 0.95),
        )


class Run:
    """A run's folder: its plan, the untrained base, caches, checkpoints and log."""

    def __init__(self, folder: Path, plan: Plan, corpus: Path) -> None:
        self.folder = folder
        self.base = folder / "base"
        self.base.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        self.corpus = corpus
        self._keep_plan()
        if not (self.base / "config.json").is_file():
            print("training the tokenizer")
            bpe.write(bpe.train(corpus, seed=plan.seed), self.base)
            model.write_config(self.base)
        self.tokenizer = Tokenizer.load(self.base)
        self.template = ChatTemplate.load(self.base, self.tokenizer)
        self.held_out = pieces(corpus, self.tokenizer, held_out=True, cache=folder / "cache")

    def note(self, kind: str, values: dict[str, Any]) -> None:
        with (self.folder / f"{kind}.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(values) + "\n")

    def noted(self, kind: str) -> list[dict[str, Any]]:
        """What was noted, by step; of a step that was run again after a kill, the last."""
        file = self.folder / f"{kind}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        by_step: dict[int, dict[str, Any]] = {}
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:  # a line that a kill cut short
                continue
            by_step[values["step"]] = values
        return [by_step[step] for step in sorted(by_step)]

    def _keep_plan(self) -> None:
        wanted = {name: getattr(self.plan, name) for name in Plan.__dataclass_fields__}
        file = self.folder / "plan.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != wanted:
            sys.exit(f"{file} is of a run with other numbers. Give the same ones, or remove {self.folder}.")
        file.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def stream(folder: Path, plan: Plan, corpus: Path) -> Stream:
    """What the run of this folder trains on."""
    tokenizer = Tokenizer.load(folder / "base")
    mixture = Mixture(
        text_first=plan.text_first,
        text_last=plan.text_last,
        drills_first=plan.drills_first,
        drills_until=plan.drills_until,
        short_until=plan.short_until,
        long_from=plan.long_from,
        whole_until=plan.whole_until,
    )
    return Stream(
        pieces(corpus, tokenizer, held_out=False, cache=folder / "cache"),
        tokenizer,
        ChatTemplate.load(folder / "base", tokenizer),
        steps=plan.steps,
        step_tokens=plan.step_tokens,
        seed=plan.seed,
        mixture=mixture,
    )


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    given = {
        name: getattr(options, name)
        for name in Plan.__dataclass_fields__
        if getattr(options, name) is not None
    }
    run = Run(options.run or options.out.with_name(options.out.name + ".run"), Plan(**given), options.corpus)
    device = pick(options.device)
    dtype = device.dtype(options.dtype)
    decoder = model.begin(
        run.base, run.plan.seed, is_primed=bool(run.plan.primed), device=device.torch_device, dtype=dtype
    )
    print(f"{decoder.parameters:,} parameters, {run.plan.steps} steps on {device.name} in {dtype}")
    peak = matrix_peak(device.torch_device, dtype)
    for step in _train(run, decoder, device):
        if step.step % 10 == 0 or step.step == step.steps:
            _report(run, step, peak)
        if step.step % math.ceil(step.steps / run.plan.curve_points) == 0 and step.step < step.steps:
            _measure(run, decoder, step.step)
    _finish(run, decoder, options, _hardware(device), str(dtype).removeprefix("torch."))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.seedling", description="Makes the embedded base."
    )
    parser.add_argument("--corpus", type=Path, required=True, help='gzipped JSONL of {"source", "text"}')
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished base")
    parser.add_argument("--run", type=Path, help="folder for what a restart needs (OUT.run)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="what it computes in: float32, bfloat16 or auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--final-items", type=int, default=1000, help="conversations for each final score")
    for name, field in Plan.__dataclass_fields__.items():
        kind = float if "float" in str(field.type) else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, required=name == "tokens")
    return parser.parse_args()


def _train(run: Run, decoder: Decoder, device: Device) -> Iterator[Step]:
    checkpoints = Checkpoints(run.folder / "checkpoints")
    make = partial(stream, run.folder, run.plan, run.corpus)
    if device.type == "cpu":  # its cores are the model's; making the stream takes a fiftieth of the time
        yield from train(decoder, None, make(), run.plan.recipe, checkpoints=checkpoints)
        return
    make().at(0)  # the cache is written once, here
    source = Ahead(make, run.plan.steps, processes=max(1, (os.cpu_count() or 1) - 2))
    try:
        yield from train(decoder, None, source, run.plan.recipe, checkpoints=checkpoints)
    finally:
        source.close()


def _report(run: Run, step: Step, peak: float) -> None:
    left_s = (step.steps - step.step) * step.seconds
    share = step.operations / step.seconds / peak
    speed = {"tokens_per_s": step.tokens_per_s, "peak_share": share}
    run.note("steps", {"step": step.step, "loss": step.loss, "norm": step.grad_norm, **speed})
    print(
        f"step {step.step}/{step.steps} loss {step.loss:.3f} rate {step.learning_rate:.1e} norm {step.grad_norm:.2f} "
        f"{step.tokens_per_s:,.0f} tokens/s {share:.0%} of peak {left_s / 60:.0f} min left",
        flush=True,
    )


def _measure(run: Run, decoder: Decoder, step: int) -> dict[str, Any]:
    """A point of the learning curve, noted and shown."""
    exact = evaluate.abilities(decoder, run.template, run.plan.items)
    point: dict[str, Any] = {
        "step": step,
        "tokens": step * run.plan.step_tokens,
        "bits_per_byte": evaluate.bits_per_byte(decoder, run.tokenizer, run.held_out, max_pieces=60),
        "exact": exact,
    }
    run.note("curve", point)
    shares = " ".join(f"{name} {share:.0%}" for name, share in exact.items())
    print(f"step {step}: {point['bits_per_byte']:.3f} bits per byte; {shares}", flush=True)
    return point


def _finish(run: Run, decoder: Decoder, options: argparse.Namespace, hardware: str, dtype: str) -> None:
    """Exports the base and writes its card from what the exported files score."""
    out: Path = options.out
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    save_base(decoder, part, like=run.base, dtype=torch.bfloat16)
    exported = load_base(part, device=decoder.device, dtype=torch.float32)
    _measure(run, exported, run.plan.steps)
    steps = run.noted("steps")
    training = card.Training(
        command=_command(run),
        corpus=run.corpus.name,
        sources=tuple(sources(run.corpus)),
        tokens=run.plan.steps * run.plan.step_tokens,
        steps=run.plan.steps,
        seconds=sum(run.plan.step_tokens / s["tokens_per_s"] for s in steps)
        * run.plan.steps
        / max(1, len(steps)),
        peak_share=statistics.fmean([s["peak_share"] for s in steps if "peak_share" in s] or [0.0]),
        hardware=hardware,
        dtype=dtype,
        seed=run.plan.seed,
    )
    card.write(
        part,
        exported,
        training,
        scores=evaluate.score(part, options.final_items, run.corpus, device=options.device),
        curve=run.noted("curve"),
        curve_items=run.plan.items,
        samples=_samples(run, exported),
    )
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)
    print(f"{out} is ready. {run.folder} may be removed.")


def _command(run: Run) -> str:
    """What makes this very base again: every number of the plan that is not the usual one."""
    usual = Plan(tokens=0)
    chosen = {n: getattr(run.plan, n) for n in Plan.__dataclass_fields__}
    numbers = " ".join(f"--{n.replace('_', '-')} {v}" for n, v in chosen.items() if v != getattr(usual, n))
    return f"python -m recipes.seedling --corpus {run.corpus.name} --out seedling {numbers}"


def _samples(run: Run, decoder: Decoder) -> list[tuple[str, str]]:
    """Three held-out questions and what the base replies, whatever that is."""
    generate = evaluate.generator(decoder, run.tokenizer, run.template)
    asked = [evaluate.items(name, 1, seed=run.plan.seed)[0] for name in ("answer", "unknown", "extract")]
    return [("\n\n".join(m.text for m in c.prompt), generate(c.prompt)) for c in asked]


def _hardware(device: Device) -> str:
    if device.type == "cpu":
        return f"{torch.get_num_threads()} cores of {device.name or platform.machine()}"
    return device.name


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")
