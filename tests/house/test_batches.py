"""Batches and embeddings in a whole house: the unchanged `openai` package, a real engine, and whoever may die."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import openai
import pytest

from tests.house.house import House, descendants, until

LINES = 40
ENDED = ("completed", "failed", "expired", "cancelled")


def client_of(house: House) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{house.url}/v1", api_key=house.key, max_retries=0)


def prompt(i: int) -> str:
    return f"{i} and {i * 7 % 10}"


def create(client: openai.OpenAI, model: str, max_tokens: int) -> str:
    rows = [
        {
            "custom_id": f"line {i}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": model, "prompt": prompt(i), "temperature": 0, "max_tokens": max_tokens},
        }
        for i in range(LINES)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    return made.id


def texts(client: openai.OpenAI, id: str) -> dict[str, str]:
    """Each line's text, of a batch that has completed; no line has two."""
    batch = client.batches.retrieve(id)
    assert batch.status == "completed", batch
    assert batch.error_file_id is None and batch.output_file_id is not None
    rows = [json.loads(row) for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == [f"line {i}" for i in range(LINES)]
    return {row["custom_id"]: row["response"]["body"]["choices"][0]["text"] for row in rows}


def children(house: House, what: str) -> list[int]:
    assert house.process is not None
    return [pid for pid, command in descendants(house.process.pid).items() if what in command]


@pytest.mark.parametrize("victim", ["server", "worker", "engine"])
def test_a_batch_survives_the_death_of_anybody(own: House, victim: str) -> None:
    own.start()
    client = client_of(own)
    id = create(client, "tiny", 120)

    def counts(least: int) -> bool:
        batch = client.batches.retrieve(id)
        assert batch.status not in ENDED, "the batch was over before anybody died"
        return batch.request_counts is not None and batch.request_counts.completed >= least

    until(lambda: counts(1), "some are answered")
    if victim == "server":
        own.kill()
        own.start()
        client = client_of(own)
    else:
        which = "worker.child job-" if victim == "engine" else "inhouse.worker"
        victims = children(own, which)
        if victim == "worker":
            victims = [pid for pid in victims if pid not in children(own, "worker.child")]
        assert len(victims) == 1
        os.kill(victims[0], signal.SIGKILL)
    until(lambda: client.batches.retrieve(id).status in ENDED, "the batch ends", 90)
    found = texts(client, id)
    for i in (0, LINES // 2, LINES - 1):
        alone = client.completions.create(model="tiny", prompt=prompt(i), temperature=0, max_tokens=120)
        assert found[f"line {i}"] == alone.choices[0].text


def test_the_package_gets_vectors_that_are_the_same_alone_and_in_a_list(whole: House) -> None:
    client = client_of(whole)
    inputs = ["a short one", "another, that is a little longer than the first", "a short one"]
    together = client.embeddings.create(model="tiny", input=inputs)
    alone = [client.embeddings.create(model="tiny", input=text).data[0].embedding for text in inputs]
    for item, own in zip(together.data, alone, strict=True):
        assert len(item.embedding) == 32
        assert sum(x * x for x in item.embedding) == pytest.approx(1, abs=1e-6)
        assert item.embedding == pytest.approx(own, abs=1e-5)
    assert together.data[0].embedding == pytest.approx(together.data[2].embedding, abs=1e-5)
    assert together.data[0].embedding != pytest.approx(together.data[1].embedding, abs=1e-3)
    counted = together.usage
    assert counted.prompt_tokens == counted.total_tokens == sum(len(text.encode()) for text in inputs)
    as_numbers: Any = client.embeddings.create(model="tiny", input=inputs, encoding_format="float")
    assert [item.embedding for item in as_numbers.data] == [
        pytest.approx(item.embedding, abs=1e-5) for item in together.data
    ]


def test_too_long_an_input_names_itself_and_both_lengths(whole: House) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client_of(whole).embeddings.create(model="tiny", input=["fine", "x" * 300])
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "input[1]"
    assert "256" in caught.value.message and "300" in caught.value.message
