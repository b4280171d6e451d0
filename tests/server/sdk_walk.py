"""The unchanged `openai` package against a server: `sdk_walk.py BASE_URL KEY`. Which release is up to PYTHONPATH.

Nothing but base_url and api_key is set. A worker (or its stand-in) must finish the job that this makes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import openai

ROWS = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'


def main(base_url: str, key: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)

    names = [model.id for model in client.models.list()]
    assert "seedling" in names, names
    assert client.models.retrieve("seedling").object == "model"

    whole = client.chat.completions.create(
        model="seedling", messages=[{"role": "user", "content": "one two three"}], temperature=0, seed=1, n=2
    )
    assert [c.message.content for c in whole.choices] == ["one two three"] * 2
    assert whole.usage is not None and whole.usage.total_tokens == 9
    streamed = client.chat.completions.create(
        model="seedling",
        messages=[{"role": "user", "content": "one two three"}],
        stream=True,
        stream_options={"include_usage": True},
        logprobs=True,
        extra_body={"top_k": 5},
    )
    text, usage = "", None
    for chunk in streamed:
        text += "".join(c.delta.content or "" for c in chunk.choices)
        usage = chunk.usage or usage
    assert text == "one two three"
    assert usage is not None and usage.completion_tokens == 3

    plain = client.completions.create(model="seedling", prompt=["a b", "c"], max_tokens=5, logprobs=1)
    assert [c.text for c in plain.choices] == ["a b", "c"]
    assert (
        "".join(
            c.choices[0].text for c in client.completions.create(model="seedling", prompt="x y", stream=True)
        )
        == "x y"
    )

    # The package asks for base64 by itself, and reads it.
    vectors = client.embeddings.create(model="seedling", input=["one two", "three"])
    assert [len(v.embedding) for v in vectors.data] == [3, 3]
    plain_vectors = client.embeddings.create(
        model="seedling", input=["one two", "three"], encoding_format="float"
    )
    assert [list(v.embedding) for v in vectors.data] == [v.embedding for v in plain_vectors.data]
    assert vectors.usage.prompt_tokens == vectors.usage.total_tokens == 3

    file = client.files.create(file=("facts.jsonl", ROWS), purpose="fine-tune")
    assert client.files.retrieve(file.id).bytes == len(ROWS)
    assert client.files.content(file.id).read() == ROWS
    assert file.id in [f.id for f in client.files.list(limit=1)]

    job = client.fine_tuning.jobs.create(
        model="seedling",
        training_file=file.id,
        suffix="walk",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert job.status == "validating_files"
    deadline = time.monotonic() + 30
    while job.status not in ("succeeded", "failed", "cancelled") and time.monotonic() < deadline:
        time.sleep(0.1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job
    assert job.fine_tuned_model is not None and job.trained_tokens == 12
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=1))
    assert len(events) >= 2 and events[-1].message.startswith("Created")
    assert job.id in [j.id for j in client.fine_tuning.jobs.list(limit=1)]
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []

    lasting = client.files.create(
        file=("facts.jsonl", ROWS),
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert lasting.expires_at == lasting.created_at + 3600
    waits = client.fine_tuning.jobs.create(
        model="seedling", training_file=lasting.id, metadata={"team": "walk"}
    )
    assert client.fine_tuning.jobs.pause(waits.id).x_state == "paused"  # type: ignore[attr-defined]
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"team": "walk"})] == [waits.id]
    assert client.fine_tuning.jobs.resume(waits.id).x_state is None  # type: ignore[attr-defined]
    assert client.fine_tuning.jobs.cancel(waits.id).status == "cancelled"

    walk_batch(client, job.fine_tuned_model)

    answer = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "hi"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in answer) == "hi"

    second = client.fine_tuning.jobs.create(model="seedling", training_file=file.id)
    assert client.fine_tuning.jobs.cancel(second.id).status == "cancelled"

    assert client.models.delete(job.fine_tuned_model).deleted
    assert client.files.delete(file.id).deleted
    for failing, error in [
        (lambda: client.models.retrieve(job.fine_tuned_model or ""), openai.NotFoundError),
        (lambda: client.fine_tuning.jobs.cancel(second.id), openai.ConflictError),
        (lambda: client.completions.create(model="seedling", prompt="x", n=0), openai.BadRequestError),
        (lambda: openai.OpenAI(base_url=base_url, api_key="no").models.list(), openai.AuthenticationError),
        (
            lambda: list(client.completions.create(model="seedling", prompt="crash 1", stream=True)),
            openai.APIError,
        ),
    ]:
        try:
            failing()
        except error as raised:
            assert raised.request is not None
        else:
            raise AssertionError(f"{error.__name__} was not raised")
    print("walked", openai.__version__)


def walk_batch(client: openai.OpenAI, tuned: str) -> None:
    """A batch from its file to its answers, as the package's users write it."""
    rows: list[dict[str, Any]] = [
        {
            "custom_id": f"row-{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": tuned, "messages": [{"role": "user", "content": f"word {i}"}]},
        }
        for i in range(5)
    ]
    rows[3]["body"]["model"] = "nobody"
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"night": "1"},
    )
    assert batch.status == "validating" and batch.object == "batch"
    deadline = time.monotonic() + 30
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.errors is None, batch
    counts = batch.request_counts
    assert counts is not None and (counts.total, counts.completed, counts.failed) == (5, 4, 1)
    assert batch.output_file_id is not None and batch.error_file_id is not None
    answered = [json.loads(row) for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert {
        row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in answered
    } == {f"row-{i}": f"word {i}" for i in (0, 1, 2, 4)}
    (refused,) = client.files.content(batch.error_file_id).text.splitlines()
    assert json.loads(refused)["response"]["body"]["error"]["code"] == "model_not_found"
    assert batch.id in [b.id for b in client.batches.list(limit=1)]

    slow = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    while slow.status == "validating":
        time.sleep(0.1)
        slow = client.batches.retrieve(slow.id)
    assert slow.status == "failed" and slow.errors is not None and slow.errors.data is not None
    assert [error.line for error in slow.errors.data] == [1, 2, 3, 4, 5]
    try:
        client.batches.cancel(slow.id)
    except openai.ConflictError:
        pass
    else:
        raise AssertionError("a batch that has failed was cancelled")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
