"""The main job, through every floor: a company's rows go in, a tuned model answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import torch

from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.decoder import greedy
from inhouse.model.weights import load_base
from inhouse.schema import Message
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import usage
from inhouse.store.records.usage import UsageTotal
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from tests.house.house import House, rows, until

WALK = Path(__file__).with_name("openai_walk.py")
OPENAI_2 = Path(sys.prefix) / "openai-2"
"""Where `make` puts the older major of the openai package, beside the installed one."""


@pytest.mark.parametrize("major", ["2", "3"])
def test_the_unchanged_openai_package_tunes_and_asks(major: str, whole: House) -> None:
    path = str(OPENAI_2) if major == "2" else ""
    if major == "2" and not OPENAI_2.is_dir():
        pytest.fail(f"{OPENAI_2} is missing: run `make install`")
    done = subprocess.run(
        [sys.executable, WALK, f"{whole.url}/v1", whole.key, "tiny"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + whole.output()
    assert f"walked {major}." in done.stdout


@pytest.fixture(scope="module")
def tuned(whole: House) -> list[str]:
    """Two models tuned on different rows, of different rank."""
    jobs = [
        whole.submit("tiny", rows(4, prefix), n_epochs=30, batch_size=4, x_rank=rank)
        for prefix, rank in (("q", 4), ("other ", 7))
    ]
    return [str(whole.ended(job)["fine_tuned_model"]) for job in jobs]


def test_concurrent_requests_for_the_base_and_two_adapters_each_get_their_own_answer(
    whole: House, tuned: list[str], tiny: Path
) -> None:
    decoder, tokenizer = load_base(tiny), Tokenizer.load(tiny)
    template = ChatTemplate.load(tiny, tokenizer)
    artifacts = Artifacts(whole.data_dir / "artifacts")
    asked = [(model, f"q{i}?") for i in range(4) for model in ("tiny", *tuned)]

    def ask(pair: tuple[str, str]) -> tuple[str, str | None]:
        reply = whole.chat(*pair, max_tokens=6).json()
        return reply["choices"][0]["message"]["content"], reply.get("x_adapter")

    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(ask, asked))
    adapters = {}
    for (_, question), (text, digest) in zip(asked, answers, strict=True):
        if digest not in adapters:
            adapters[digest] = digest and LoadedLora(Adapter.read(artifacts.folder(digest), decoder), decoder)
        prompt = template.prompt([Message(role="user", content=question)])
        expected = greedy(decoder, prompt, 6, adapters[digest], template.stop_ids)
        assert text == tokenizer.decode(expected)
    assert len(adapters) == 3


def test_echoed_logprobs_equal_the_models_logits(whole: House, tiny: Path) -> None:
    prompt = "own your models"
    reply = whole.call(
        "POST",
        "/v1/completions",
        json={"model": "tiny", "prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0},
    ).json()
    told = reply["choices"][0]["logprobs"]["token_logprobs"]
    ids = Tokenizer.load(tiny).encode(prompt)
    with torch.no_grad():
        logits = load_base(tiny).score([ids]).log_softmax(-1)
    expected = [float(logits[i, token]) for i, token in enumerate(ids[1:])]
    assert told[0] is None
    assert told[1:] == pytest.approx(expected, abs=1e-4)


def test_a_fully_tuned_model_is_served_as_a_base_of_its_own(whole: House) -> None:
    job = whole.ended(
        whole.submit("tiny", rows(3), n_epochs=20, batch_size=3, x_method="full", x_learning_rate=0.003)
    )
    assert job["status"] == "succeeded", job
    texts = [
        whole.chat(job["fine_tuned_model"], f"q{i}?", max_tokens=6).json()["choices"][0]["message"]["content"]
        for i in range(3)
    ]
    assert texts == ["a0", "a7", "a4"]


def test_a_seed_repeats_whatever_shares_the_batch(whole: House) -> None:
    def ask(_: int) -> str:
        reply = whole.chat("tiny", "say something", temperature=1.0, seed=7, max_tokens=12)
        return str(reply.json()["choices"][0]["message"]["content"])

    alone = ask(0)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {alone}


def test_a_cancelled_job_publishes_nothing_and_the_next_one_runs(whole: House) -> None:
    long = whole.submit("tiny", rows(64), n_epochs=500, batch_size=1)
    assert whole.call("POST", f"/v1/fine_tuning/jobs/{long}/cancel").json()["status"] == "cancelled"
    short = whole.ended(whole.submit("tiny", rows(2), n_epochs=1))
    assert short["status"] == "succeeded"
    assert whole.job(long)["status"] == "cancelled"
    assert whole.job(long)["fine_tuned_model"] is None


def test_a_caller_who_leaves_early_is_billed_for_the_prompt_and_what_was_made(whole: House) -> None:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "tell me"}],
        "stream": True,
        "max_tokens": 150,
    }
    headers = {"authorization": f"Bearer {whole.key}"}
    db = Database(Settings(data_dir=whole.data_dir).database)

    def used() -> UsageTotal:
        with db.read() as conn:
            return usage.total(conn, "default", 0.0)

    def at_rest() -> UsageTotal | None:
        """Rows are written a moment after their requests: those of earlier tests first."""
        seen = used()
        time.sleep(1.5)
        return seen if used() == seen else None

    before = until(at_rest, "earlier usage rows")
    with (
        httpx2.Client(base_url=whole.url, trust_env=False, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply,
    ):
        next(reply.iter_lines())
    after = until(lambda: (now := used()).requests > before.requests and now, "the usage row")
    db.dispose()
    prompt = Tokenizer.load(whole.bases[0]).encode("<|start|>user\ntell me<|end|>\n<|start|>assistant\n")  # type: ignore[arg-type]
    assert after.prompt_tokens - before.prompt_tokens == len(prompt)
    assert 0 < after.completion_tokens - before.completion_tokens <= 150


def test_the_whole_house_stands_on_postgresql_too(tmp_path: Path, tiny: Path, postgres_url: str) -> None:
    house = House(tmp_path / "data", [tiny], database_url=postgres_url)
    house.start()
    try:
        job = house.ended(house.submit("tiny", rows(2), n_epochs=30, batch_size=2))
        assert job["status"] == "succeeded", house.output()
        reply = house.chat(job["fine_tuned_model"], "q1?", max_tokens=6)
        assert reply.json()["choices"][0]["message"]["content"] == "a7"
        assert not (house.data_dir / "inhouse.db").exists()
    finally:
        assert house.stop() == 0, house.output()
