"""Responses through the unchanged `openai` package: both majors on the stub, and a real engine of random weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.engine.test_serve import serving
from tests.engine.world import World

from .description import faults
from .house import House, announce, house

WALK = Path(__file__).with_name("responses_walk.py")
OPENAI_2 = Path(sys.prefix) / "openai-2"
"""Where `make` puts the older major of the openai package, beside the installed one."""


@pytest.mark.parametrize("major", ["2", "3"])
def test_the_unchanged_package_talks_in_responses(served: House, major: str) -> None:
    if major == "2" and not OPENAI_2.is_dir():
        pytest.fail(f"{OPENAI_2} is missing: run `make install`")
    environment = os.environ | ({"PYTHONPATH": str(OPENAI_2)} if major == "2" else {})
    command = [sys.executable, str(WALK), f"{served.url}/v1", served.member]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"walked {major}.")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """The package, over a gateway and a real engine."""
    world = World(tmp_path_factory.mktemp("world"), max_position_embeddings=2048)
    folder = tmp_path_factory.mktemp("house")
    engine = world.engine(cache_tokens=16 * 1024, max_running=16)
    with house(folder, load_wait_s=5.0) as made, serving(engine, folder) as (_, path):
        announce(made.db, f"unix:{path}")
        with OpenAI(base_url=f"{made.url}/v1", api_key=made.member, max_retries=0) as own:
            yield own


class Order(BaseModel):
    """What any model comes to the end of."""

    mood: Literal["good", "bad"]
    count: int = Field(ge=10, le=99)
    is_paid: bool


def test_a_real_engine_s_stream_equals_the_whole_text_at_temperature_0(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "seedling", "temperature": 0, "max_output_tokens": 24}
    for input in ("Go on.", "Say more.", "æøå?"):
        whole = client.responses.create(input=input, **asked)
        events = list(client.responses.create(input=input, **asked, stream=True))
        said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        assert said == whole.output_text != ""
        for event in events:
            assert faults("ResponseStreamEvent", event.to_dict()) == []
        assert faults("Response", whole.to_dict()) == []
        last = events[-1]
        assert last.type in ("response.completed", "response.incomplete")
        assert last.response.usage is not None and whole.usage is not None
        assert last.response.usage.output_tokens == whole.usage.output_tokens


def test_a_real_engine_goes_on_from_a_stored_response_as_from_its_items(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "seedling", "temperature": 0, "max_output_tokens": 12}
    first = client.responses.create(input="Go on.", **asked)
    second = client.responses.create(input="And then?", previous_response_id=first.id, **asked)
    turns: list[Any] = [
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And then?"},
    ]
    by_hand = client.responses.create(input=turns, **asked)
    chat = client.chat.completions.create(
        model="seedling", messages=turns, temperature=0, max_completion_tokens=12
    )
    assert second.output_text == by_hand.output_text == chat.choices[0].message.content
    assert second.usage is not None and by_hand.usage is not None and chat.usage is not None
    assert second.usage.input_tokens == by_hand.usage.input_tokens == chat.usage.prompt_tokens


def test_a_real_engine_s_replies_are_parsed_into_a_model(client: OpenAI) -> None:
    for temperature in (0, 2):
        reply = client.responses.parse(
            model="seedling", input="Order.", text_format=Order, temperature=temperature
        )
        assert isinstance(reply.output_parsed, Order) and reply.status == "completed"
        with client.responses.stream(
            model="seedling", input="Order.", text_format=Order, temperature=temperature
        ) as stream:
            assert isinstance(stream.get_final_response().output_parsed, Order)


def test_a_real_engine_s_calls_are_held_to_their_tool_and_answered(client: OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "name": "order",
        "parameters": Order.model_json_schema() | {"additionalProperties": False},
        "strict": True,
    }
    asked: dict[str, Any] = {"model": "seedling", "tools": [tool], "temperature": 2}
    called = client.responses.create(
        input="Order.", **asked, tool_choice={"type": "function", "name": "order"}
    )
    (call,) = called.output
    assert call.type == "function_call" and Order.model_validate_json(call.arguments)
    streamed = client.responses.create(input="Order.", **asked, tool_choice="required", stream=True)
    events = list(streamed)
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert pieces and all(faults("ResponseStreamEvent", e.to_dict()) == [] for e in events)
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "done"}]
    answered = client.responses.create(
        input=output, previous_response_id=called.id, **asked, tool_choice="none", max_output_tokens=16
    )
    assert answered.output[0].type == "message"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "x " * 4000}, "input"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}, "text.format"),
        ({"max_output_tokens": 5000}, "input"),
    ],
)
def test_a_real_engine_s_refusals_name_the_fields_of_responses(
    client: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "seedling", "input": "x", **fields})
    assert caught.value.param == param
    assert not any(word in caught.value.message for word in ("messages", "completion", "response_format"))
