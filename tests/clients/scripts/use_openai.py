"""The openai package, either major: everything that it can ask of a language model's server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
from things import Person, Weather
from walk import BASE_URL, FACTS, KEY, MODEL, QUESTION, batch_file, did, facts_file

ASKED: Any = [{"role": "user", "content": QUESTION}]


def main() -> None:
    client = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    did("models")
    chats(client)
    structure(client)
    completions(client)
    embeddings(client)
    responses(client)
    errors(client)
    asyncio.run(in_async())
    tuning(client)
    batches(client)


def chats(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0, max_tokens=24)
    text = whole.choices[0].message.content
    assert (
        text
        and whole.usage
        and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    )
    did("chat")
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=ASKED,
            temperature=0,
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    did("stream")
    several = client.chat.completions.create(
        model=MODEL, messages=ASKED, n=2, seed=5, temperature=1, max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert len(several.choices) == 2
    assert all(len(token.top_logprobs) == 2 for c in several.choices for token in c.logprobs.content)
    did("choices and log-probabilities")


def structure(client: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(Weather, name="weather")]
    forced: Any = {"type": "function", "function": {"name": "weather"}}
    called = client.chat.completions.create(
        model=MODEL, messages=ASKED, tools=tools, tool_choice=forced, temperature=0, max_tokens=64
    )
    (call,) = called.choices[0].message.tool_calls or ()
    assert Weather.model_validate_json(call.function.arguments)
    answered = client.chat.completions.create(
        model=MODEL,
        messages=[
            *ASKED,
            called.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ],
        tools=tools,
        max_tokens=16,
    )
    assert answered.choices[0].finish_reason in ("stop", "length", "tool_calls")
    with client.chat.completions.stream(
        model=MODEL, messages=ASKED, tools=tools, tool_choice=forced, temperature=0, max_tokens=64
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    did("tools")
    parsed = client.chat.completions.parse(
        model=MODEL, messages=ASKED, response_format=Person, temperature=0, max_tokens=128
    )
    assert isinstance(parsed.choices[0].message.parsed, Person)
    did("structured output")


def completions(client: openai.OpenAI) -> None:
    echoed = client.completions.create(
        model=MODEL, prompt="own your models", echo=True, logprobs=1, max_tokens=0
    )
    told = echoed.choices[0].logprobs
    assert told and told.token_logprobs[0] is None and all(p <= 0 for p in told.token_logprobs[1:])
    assert echoed.choices[0].text == "own your models"
    did("completions")


def embeddings(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model=MODEL, input=["harbour", "office"])
    other = client.embeddings.create(model=MODEL, input="harbour", encoding_format="float")
    assert len(one.data) == 2
    assert all(abs(a - b) < 1e-5 for a, b in zip(one.data[0].embedding, other.data[0].embedding, strict=True))
    did("embeddings")


def responses(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=24)
    assert first.output_text and first.usage
    events = list(
        client.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=24, stream=True)
    )
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == first.output_text
    again = client.responses.create(
        model=MODEL, input="And who else?", previous_response_id=first.id, max_output_tokens=8
    )
    assert again.previous_response_id == first.id
    parsed = client.responses.parse(
        model=MODEL, input=QUESTION, text_format=Person, temperature=0, max_output_tokens=128
    )
    assert isinstance(parsed.output_parsed, Person)
    did("responses")


def errors(client: openai.OpenAI) -> None:
    for wrong, kind in (
        (lambda: client.chat.completions.create(model="no-such-model", messages=ASKED), openai.NotFoundError),
        (lambda: client.chat.completions.create(model=MODEL, messages=ASKED, n=0), openai.BadRequestError),
        (lambda: client.with_options(api_key="sk-wrong").models.list(), openai.AuthenticationError),
    ):
        try:
            wrong()
        except kind as e:
            assert e.request_id and e.code
        else:
            raise AssertionError(f"no {kind.__name__}")
    did("errors")


async def in_async() -> None:
    async with openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEY) as client:
        replies = await asyncio.gather(
            *(
                client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0, max_tokens=8)
                for _ in range(4)
            )
        )
    assert len({reply.choices[0].message.content for reply in replies}) == 1
    did("asynchronous")


def tuning(client: openai.OpenAI) -> None:
    with facts_file().open("rb") as rows:
        file = client.files.create(file=rows, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file.id,
        suffix="walk",
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 8, "batch_size": 6}}},
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    assert job.id in [other.id for other in client.fine_tuning.jobs.list()]
    events = list(client.fine_tuning.jobs.list_events(job.id))
    losses = [event.data["train_loss"] for event in events if event.type == "metrics"]
    assert losses[0] < losses[-1], "newest first: the loss fell"
    assert client.files.content(job.result_files[0]).text.startswith("step,")
    for question, reply in FACTS.items():
        said = client.chat.completions.create(
            model=job.fine_tuned_model, messages=[{"role": "user", "content": question}], temperature=0
        )
        assert said.choices[0].message.content == reply, (question, said.choices[0].message.content)
    assert client.models.delete(job.fine_tuned_model).deleted
    assert client.files.delete(file.id).deleted
    did("files and fine-tuning")


def batches(client: openai.OpenAI) -> None:
    with batch_file().open("rb") as rows:
        file = client.files.create(file=rows, purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed", batch.errors
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    (good,) = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
    (bad,) = map(json.loads, client.files.content(batch.error_file_id).text.splitlines())
    assert (good["custom_id"], bad["custom_id"]) == ("row-0", "row-1")
    did("batches")


main()
