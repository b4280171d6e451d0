"""Makes the embedded base, from a corpus of text to a finished folder.

    python -m recipes.seedling --corpus PATH --out FOLDER --tokens 30000000 [--threads 2]

Tokenizer, model, training, scores, export, card. Killed at any moment, the same command goes on where it was;
what it needs for that lies in FOLDER.run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from inhouse.device import matrix_peak, pick
from inhouse.device.device import Device
from inhouse.model.decoder import Decoder
from inhouse.model.weights import load_base, save_base, write_digests
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.checkpoint import Checkpoints
from inhouse.tune.loop import Step, train
from recipes.seedling import card, evaluate, model
from recipes.seedling import tokenizer as bpe
from recipes.seedling.corpus import sources
from recipes.seedling.plan import Leg, Plan
from recipes.seedling.source import opened, usual_makers
from recipes.seedling.stream import pieces


class Run:
    """A run's folder: its plan, the untrained base, caches, checkpoints and log."""

    def __init__(self, folder: Path, plan: Plan, corpus: Path, dtype: str) -> None:
        self.folder = folder
        self.base = folder / "base"
        self.base.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        self.corpus = corpus
        self._keep_plan(dtype)
        if not (self.base / "config.json").is_file():
            print("training the tokenizer")
            bpe.write(bpe.train(corpus, seed=plan.seed), self.base)
            model.write_config(self.base)
        self.tokenizer = Tokenizer.load(self.base)
        self.template = ChatTemplate.load(self.base, self.tokenizer)
        self.held_out = pieces(corpus, self.tokenizer, held_out=True, cache=folder / "cache")

    def note(self, kind: str, values: dict[str, Any]) -> None:
        with (self.folder / f"{kind}.jsonl").open("a", encoding="utf-8") as log:
            log.write("\n" + json.dumps(values))  # the break first: a kill may have cut the last line short

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

    def _keep_plan(self, dtype: str) -> None:
        wanted = {name: getattr(self.plan, name) for name in Plan.__dataclass_fields__}
        wanted |= {"dtype": dtype, "corpus": hashlib.sha256(self.corpus.read_bytes()).hexdigest()}
        file = self.folder / "plan.json"
        if file.is_file():
            kept = json.loads(file.read_text(encoding="utf-8"))
            other = [name for name in wanted if kept.get(name) != wanted[name]]
            if other:
                sys.exit(
                    f"{file} is of a run with another {', '.join(other)}. Give the same, or remove {self.folder}."
                )
            return
        part = file.with_suffix(".part")  # whole or not at all, should this be killed
        part.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        part.replace(file)


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    given = {
        name: getattr(options, name)
        for name in Plan.__dataclass_fields__
        if getattr(options, name) is not None
    }
    if options.out.exists() and not (options.out / "config.json").is_file():
        sys.exit(f"{options.out} is there already and is no base. Name another folder with --out.")
    device = pick(options.device)
    dtype = device.dtype(options.dtype)
    folder = options.run or options.out.with_name(options.out.name + ".run")
    run = Run(folder, Plan(**given), options.corpus, _plain(dtype))
    decoder = model.begin(
        run.base, run.plan.seed, is_primed=bool(run.plan.primed), device=device.torch_device, dtype=dtype
    )
    print(f"{decoder.parameters:,} parameters, {run.plan.steps} steps on {device.name} in {dtype}")
    peak = matrix_peak(device.torch_device, dtype)
    steps = run.plan.steps
    makers = usual_makers(device.type) if options.makers is None else options.makers
    for done, step in _train(run, decoder, makers):
        if done % 10 == 0 or done == steps:
            _report(run, done, step, peak)
        if done % math.ceil(steps / run.plan.curve_points) == 0 and done < steps:
            _measure(run, decoder, done)
    _finish(run, decoder, options, _hardware(device), _plain(dtype))


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
    parser.add_argument("--makers", type=int, help="processes that write the stream ahead (0 on a CPU)")
    parser.add_argument("--final-items", type=int, default=1000, help="conversations for each final score")
    for name, field in Plan.__dataclass_fields__.items():
        kind = float if "float" in str(field.type) else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, required=name == "tokens")
    return parser.parse_args()


def _train(run: Run, decoder: Decoder, makers: int) -> Iterator[tuple[int, Step]]:
    """All legs, one after the other: (steps done since the beginning, the step)."""
    for leg in run.plan.legs:
        checkpoints = Checkpoints(run.folder / f"checkpoints-{leg.name}")
        for step in _train_leg(run, leg, decoder, checkpoints, makers):
            yield leg.before + step.step, step


def _train_leg(run: Run, leg: Leg, decoder: Decoder, checkpoints: Checkpoints, makers: int) -> Iterator[Step]:
    with opened(run.folder, run.plan, leg, run.corpus, makers=makers) as source:
        yield from train(decoder, None, source, leg.recipe, checkpoints=checkpoints)


def _report(run: Run, done: int, step: Step, peak: float) -> None:
    steps = run.plan.steps
    left_s = (steps - done) * step.seconds
    share = step.operations / step.seconds / peak
    speed = {"tokens_per_s": step.tokens_per_s, "peak_share": share}
    run.note("steps", {"step": done, "loss": step.loss, "norm": step.grad_norm, **speed})
    print(
        f"step {done}/{steps} loss {step.loss:.3f} rate {step.learning_rate:.1e} norm {step.grad_norm:.2f} "
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
    write_digests(out)
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


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _hardware(device: Device) -> str:
    if device.type == "cpu":
        return f"{torch.get_num_threads()} cores of {device.name or platform.machine()}"
    return device.name


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes")
