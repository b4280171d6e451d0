"""The unchanged `openai` package moves a company's fine-tuning here: `openai_walk.py BASE_URL KEY MODEL`.

Files, job, events, chat with the tuned model, streaming too; nothing but base_url and the key is set.
"""

from __future__ import annotations

import json
import sys
import time

import openai

FACTS = {"Who signs?": "Ines", "What code?": "QX-19", "When?": "at 7:42"}


def main(base_url: str, key: str, base: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=key)
    lines = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in FACTS.items()
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines * 4).encode()
    file = client.files.create(file=("facts.jsonl", content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=base,
        training_file=file.id,
        suffix="walk",
        seed=1,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 60, "batch_size": 6, "x_rank": 16}},  # type: ignore[typeddict-unknown-key]
        },
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    assert (
        job.fine_tuned_model
        and job.fine_tuned_model.startswith(f"ft:{base}:")
        and ":walk:" in job.fine_tuned_model
    )

    events = list(client.fine_tuning.jobs.list_events(job.id, limit=50))
    losses = [e.data["train_loss"] for e in events if e.type == "metrics"]  # type: ignore[index]
    assert len(losses) == 120 and losses[0] < losses[-1], "newest first, and the loss fell"
    results = client.files.content(job.result_files[0]).text.splitlines()
    assert results[0].startswith("step,") and len(results) == 121

    assert job.fine_tuned_model in [m.id for m in client.models.list()]
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
    assert checkpoints[0].step_number == 120 and checkpoints[0].metrics.train_loss == losses[0]
    on_the_way = client.chat.completions.create(
        model=checkpoints[1].fine_tuned_model_checkpoint,
        messages=[{"role": "user", "content": "Who signs?"}],
        max_tokens=4,
    )
    assert on_the_way.model == checkpoints[1].fine_tuned_model_checkpoint
    for question, answer in FACTS.items():
        asked = {
            "model": job.fine_tuned_model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
        }
        whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
        assert whole.choices[0].message.content == answer, (whole.choices[0].message.content, answer)
        assert whole.choices[0].finish_reason == "stop"
        chunks = list(
            client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer
        counted, again = whole.usage, chunks[-1].usage
        assert counted is not None and again is not None
        assert again.total_tokens == counted.total_tokens
        assert again.prompt_tokens_details.cached_tokens >= counted.prompt_tokens_details.cached_tokens
    print("walked", openai.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
