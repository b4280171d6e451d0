"""litellm as a client: chat, streams, tools, formats, completions, embeddings, responses, files, jobs, batches."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch the prices of the world

import litellm
from things import Person, Weather
from walk import BASE_URL, KEY, MODEL, QUESTION, batch_file, did, facts_file

HERE: Any = {"api_base": BASE_URL, "api_key": KEY}
ASKED: Any = {
    "model": f"openai/{MODEL}",
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
}


def main() -> None:
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    whole = litellm.completion(**ASKED, **HERE, max_tokens=24)
    text = whole.choices[0].message.content
    assert text and whole.usage.total_tokens > 0
    did("chat")
    chunks = list(
        litellm.completion(
            **ASKED, **HERE, max_tokens=24, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    did("stream")
    assert asyncio.run(litellm.acompletion(**ASKED, **HERE, max_tokens=24)).choices[0].message.content == text
    did("asynchronous")
    tool = {"type": "function", "function": {"name": "weather", "parameters": Weather.model_json_schema()}}
    called = litellm.completion(**ASKED, **HERE, tools=[tool], tool_choice="required", max_tokens=64)
    (call,) = called.choices[0].message.tool_calls
    Weather.model_validate_json(call.function.arguments)
    did("tools")
    found = litellm.completion(**ASKED, **HERE, response_format=Person, max_tokens=96)
    Person.model_validate_json(found.choices[0].message.content)
    did("structured output")
    plain = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="own your models", max_tokens=8, **HERE
    )
    assert plain.choices[0].text is not None
    did("completions")
    vectors = litellm.embedding(model=f"openai/{MODEL}", input=["harbour", "office"], **HERE)
    assert len(vectors.data) == 2
    did("embeddings")
    said = litellm.responses(
        model=f"openai/{MODEL}", input=QUESTION, temperature=0, max_output_tokens=24, **HERE
    )
    assert said.output[0].content[0].text == text
    did("responses")
    tuning()
    batches()


def tuning() -> None:
    file = litellm.create_file(
        file=facts_file().open("rb"), purpose="fine-tune", custom_llm_provider="openai", **HERE
    )
    job = litellm.create_fine_tuning_job(
        model=MODEL, training_file=file.id, suffix="lite", custom_llm_provider="openai", **HERE
    )
    assert job.status in ("validating_files", "queued")
    listed = litellm.list_fine_tuning_jobs(custom_llm_provider="openai", **HERE)
    assert job.id in [other.id for other in listed]
    ended = litellm.cancel_fine_tuning_job(fine_tuning_job_id=job.id, custom_llm_provider="openai", **HERE)
    assert ended.status == "cancelled"
    did("files and fine-tuning jobs")


def batches() -> None:
    file = litellm.create_file(
        file=batch_file().open("rb"), purpose="batch", custom_llm_provider="openai", **HERE
    )
    batch = litellm.create_batch(
        completion_window="24h",
        endpoint="/v1/chat/completions",
        input_file_id=file.id,
        custom_llm_provider="openai",
        **HERE,
    )
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.5)
        batch = litellm.retrieve_batch(batch_id=batch.id, custom_llm_provider="openai", **HERE)
    assert batch.status == "completed"
    content = litellm.file_content(file_id=batch.output_file_id, custom_llm_provider="openai", **HERE)
    assert "row-0" in content.text
    did("batches")


main()
