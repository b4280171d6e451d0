from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import results
from inhouse.model.build import fresh
from inhouse.model.config import ModelConfig
from inhouse.model.decoder import Decoder
from inhouse.model.weights import folder_digest, load_base
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.tune.loop import train
from recipes.seedling import card, evaluate, model
from recipes.seedling.__main__ import Run
from recipes.seedling.plan import Plan
from recipes.seedling.stream import Mixture, Stream, pieces
from recipes.seedling.world import ABILITIES
from recipes.seedling.writer import words
from tests.recipes.conftest import Ground, write_corpus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def taught(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    """A tiny base after a few steps of the recipe's own stream: it has learnt to say that it does not know."""
    base = tmp_path_factory.mktemp("taught") / "base"
    shutil.copytree(ground.base, base)
    decoder = model.begin(base, 3, is_primed=False, device=torch.device("cpu"), dtype=torch.float32)
    stream = Stream(
        ground.text,
        ground.tokenizer,
        ground.template,
        steps=120,
        step_tokens=1200,
        seed=1,
        mixture=Mixture(0.3, 0.3),
    )
    plan = Plan(tokens=120 * 1200, step_tokens=1200, learning_rate=1e-2)
    for _ in train(decoder, None, stream, plan.legs[0].recipe):
        pass
    return decoder


def test_reading_a_reply_gives_the_verdicts_of_generating_it(ground: Ground, taught: Decoder) -> None:
    asked = evaluate.items("unknown", 12) + evaluate.items("sums", 6)
    quick = evaluate.exact_by_reading(taught, ground.template, asked)
    generate = evaluate.generator(taught, ground.tokenizer, ground.template, max_new_tokens=12)
    assert quick == evaluate.exact_by_generating(generate, asked)
    assert True in quick and False in quick, "the test must see both verdicts"


def test_items_are_the_same_every_time_and_of_the_held_out_side() -> None:
    assert evaluate.items("answer", 20) == evaluate.items("answer", 20)
    assert evaluate.items("answer", 20) != evaluate.items("answer", 20, seed=1)


def test_bits_per_byte_fall_with_training(ground: Ground, taught: Decoder) -> None:
    text = pieces(ground.corpus, ground.tokenizer, held_out=True)
    fresh = model.begin(ground.base, 3, is_primed=False, device=torch.device("cpu"), dtype=torch.float32)
    before, after = (evaluate.bits_per_byte(d, ground.tokenizer, text) for d in (fresh, taught))
    assert 0 < after < before < 16


def test_the_seedling_is_small_enough_to_ship(tmp_path: Path) -> None:
    model.write_config(tmp_path)
    decoder = fresh(ModelConfig.load(tmp_path), seed=1)
    assert 2 * decoder.parameters < 40 * 2**20, "in bfloat16, with the package"
    assert decoder.config.context == 1024


def command(ground: Ground, run: Path, out: Path, *more: str) -> list[str]:
    """A tiny run: the base's folder is laid ready, so that the recipe keeps its small tokenizer and sizes."""
    if not run.exists():
        shutil.copytree(ground.base, run / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    numbers = words(
        "--tokens 16000 --second-tokens 8000 --step-tokens 400 --items 2 --final-items 2 "
        "--curve-points 1 --seed 4 --threads 1 --device cpu"
    )
    paths = ["--corpus", str(ground.corpus), "--out", str(out), "--run", str(run)]
    return [sys.executable, "-m", "recipes.seedling", *paths, *numbers, *more]


def of_command_line(word: str) -> list[str]:
    """Processes that were started with this word in their command or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
    return found


def test_a_killed_run_ends_with_the_bytes_of_an_unbroken_one(ground: Ground, tmp_path: Path) -> None:
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    mark = f"MARK={tmp_path}"
    first = subprocess.Popen(command(ground, tmp_path / "a", unbroken), cwd=ROOT, stdout=subprocess.DEVNULL)
    for leg, makers in (("first", "2"), ("second", "0")):
        second = subprocess.Popen(
            command(ground, tmp_path / "b", killed, "--makers", makers),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MARK": str(tmp_path)},
        )
        while not list((tmp_path / f"b/checkpoints-{leg}").glob("step-*")):
            assert second.poll() is None, "the run ended before it had a checkpoint"
            time.sleep(0.01)
        second.send_signal(signal.SIGKILL)
        second.wait()
        assert not killed.exists()
        until = time.monotonic() + 20
        while of_command_line(mark) and time.monotonic() < until:
            time.sleep(0.05)
        assert of_command_line(mark) == [], "what wrote the stream ahead goes with the run"
    subprocess.run(command(ground, tmp_path / "b", killed), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert first.wait() == 0
    assert folder_digest(killed) == folder_digest(unbroken)

    assert sorted(p.name for p in killed.iterdir()) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    ChatTemplate.load(killed, Tokenizer.load(killed))
    load_base(killed)
    assert "What it cannot do" in (killed / "README.md").read_text()


def test_a_run_refuses_other_numbers_than_it_began_with(ground: Ground, tmp_path: Path) -> None:
    changed = command(ground, tmp_path / "run", tmp_path / "out")
    (tmp_path / "run" / "plan.json").write_text(json.dumps({"tokens": 5}))
    done = subprocess.run(changed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is of a run with another tokens" in done.stderr


def test_a_run_never_writes_over_what_is_no_base(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    tried = command(ground, tmp_path / "run", tmp_path / "mine")
    done = subprocess.run(tried, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is no base" in done.stderr
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_run_refuses_another_corpus_and_another_type(ground: Ground, tmp_path: Path) -> None:
    shutil.copytree(ground.base, tmp_path / "base")
    other = tmp_path / "other.jsonl.gz"
    write_corpus(other, documents=60)
    Run(tmp_path, Plan(tokens=5), ground.corpus, "float32")
    Run(tmp_path, Plan(tokens=5), ground.corpus, "float32")
    with pytest.raises(SystemExit, match="another dtype"):
        Run(tmp_path, Plan(tokens=5), ground.corpus, "bfloat16")
    with pytest.raises(SystemExit, match="another corpus"):
        Run(tmp_path, Plan(tokens=5), other, "float32")


def test_a_line_that_a_kill_cut_short_takes_no_other_along(ground: Ground, tmp_path: Path) -> None:
    shutil.copytree(ground.base, tmp_path / "base")
    run = Run(tmp_path, Plan(tokens=5), ground.corpus, "float32")
    run.note("steps", {"step": 1})
    with (tmp_path / "steps.jsonl").open("a") as log:
        log.write('\n{"step": 2, "lo')
    run.note("steps", {"step": 3})
    assert run.noted("steps") == [{"step": 1}, {"step": 3}]


def test_the_table_sets_each_score_beside_its_figure() -> None:
    exact = {"answer": 0.953, "lacks": 0.9, "quote": 0.5}
    lines = evaluate.table(evaluate.Scores(1000, exact, 1.234, 299.0)).splitlines()
    assert "| answer | 95.3% | 0.7% | at least 95%: met |" in lines
    assert "| lacks | 90.0% | 0.9% | at least 95%: **missed** |" in lines
    assert "| quote | 50.0% | 1.6% |  |" in lines
    assert lines[-1].endswith("299 tokens/s | | at least 300 tokens/s: **missed** |")


def test_the_card_says_every_shortfall_in_words() -> None:
    exact = dict.fromkeys(ABILITIES, 1.0) | {"answer": 0.4, "quote": 0.3}
    said = card._missed(evaluate.Scores(1000, exact, 1.2, 299.0))
    assert "fails at: quote (30%), answer (40%)." in said
    assert "for: answer (40%, wanted 95%), decoding (299 tokens/s, wanted 300)." in said
    perfect = evaluate.Scores(1000, dict.fromkeys(ABILITIES, 1.0), 1.2, 300.0)
    assert card._missed(perfect) == "It reaches every figure it was made for."


def test_a_kept_command_does_not_say_where_a_machine_keeps_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x.py", "bases/seedling", "--corpus", "/home/me/corpus.gz", "--keep"])
    assert results.command("m") == "python -m m bases/seedling --corpus corpus.gz --keep"


def test_every_figure_is_of_an_ability() -> None:
    assert set(evaluate.FIGURES) <= set(ABILITIES)
