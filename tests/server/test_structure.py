"""Formats and tools through the whole API: the openai package, a real gateway and a real engine of random weights."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import date
from enum import Enum
from typing import Any

import httpx2
import jsonschema
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.engine.test_serve import serving
from tests.engine.world import World
from tests.text.schemas import BOMBS, KEPT, TREE, closed
from tests.text.test_hostile_grammars import HOSTILE_LARK

from .house import House, announce, house
from .test_chat import events

ASKED: list[Any] = [{"role": "user", "content": "Go on."}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), max_position_embeddings=2048)


@pytest.fixture(scope="module")
def served(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    engine = world.engine(cache_tokens=16 * 1024, max_running=16)
    with house(folder, load_wait_s=5.0) as made, serving(engine, folder) as (_, path):
        announce(made.db, f"unix:{path}")
        yield made


@pytest.fixture
def client(served: House) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key=served.member, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def leaning(world: World) -> dict[str, Any]:
    """Temperature 2, leaning towards what closes strings and brackets: chance alone would seldom end."""
    closers = {str(world.tokenizer.encode(c, special=False)[0]): 3 for c in '"}]'}
    return {"model": "seedling", "temperature": 2, "max_tokens": 900, "logit_bias": closers | {"2": 3}}


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Line(BaseModel):
    item: str = Field(max_length=5)
    count: int = Field(ge=0, le=99)


class Order(BaseModel):
    """What a program wants to read."""

    on: date
    mood: Mood
    lines: list[Line] = Field(max_length=3)
    note: str | None


def test_the_package_parses_replies_into_a_model(client: OpenAI, leaning: dict[str, Any]) -> None:
    for seed in range(5):
        reply = client.chat.completions.parse(messages=ASKED, response_format=Order, seed=seed, **leaning)
        parsed = reply.choices[0].message.parsed
        assert isinstance(parsed, Order) and reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", ["flat", "optional", "recursion", "unicode", "any of", "date-time"])
def test_a_schema_is_kept_whole_and_streamed(client: OpenAI, leaning: dict[str, Any], name: str) -> None:
    format: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": KEPT[name], "strict": True}}
    asked = {"messages": ASKED, "response_format": format, "seed": 5, **leaning}
    whole = client.chat.completions.create(**asked).choices[0]
    chunks = list(client.chat.completions.create(**asked, stream=True))
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert (streamed, chunks[-1].choices[0].finish_reason) == (whole.message.content, whole.finish_reason)
    assert whole.finish_reason == "stop"
    jsonschema.validate(json.loads(streamed), KEPT[name])


def test_a_cut_reply_says_length(client: OpenAI, leaning: dict[str, Any]) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(messages=ASKED, response_format=Order, **leaning | {"max_tokens": 5})


def test_json_mode_gives_objects(client: OpenAI, leaning: dict[str, Any]) -> None:
    reply = client.chat.completions.create(
        messages=ASKED, response_format={"type": "json_object"}, n=8, seed=1, **leaning
    )
    texts = [c.message.content or "" for c in reply.choices if c.finish_reason == "stop"]
    assert texts and all(isinstance(json.loads(text), dict) for text in texts)


def test_other_formats_are_kept_in_chat_and_completions(client: OpenAI, leaning: dict[str, Any]) -> None:
    formats: list[tuple[dict[str, Any], str]] = [
        ({"regex": r"[A-Z]{2}-\d{4}"}, r"[A-Z]{2}-\d{4}"),
        ({"choice": ["yes", "no", "perhaps"]}, "yes|no|perhaps"),
        ({"grammar": 'start: "(" start ")" | "x"'}, r"\(*x\)*"),
        ({"json": {"enum": [1, "two"]}}, '1|"two"'),
    ]
    for format, pattern in formats:
        extra = {"structured_outputs": format}
        chat = client.chat.completions.create(messages=ASKED, extra_body=extra, seed=1, **leaning)
        plain = client.completions.create(prompt="Go on.", extra_body=extra, seed=1, **leaning)
        assert re.fullmatch(pattern, chat.choices[0].message.content or "")
        assert re.fullmatch(pattern, plain.choices[0].text)


def schema_of(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        (schema_of({"type": "object", "properties": {"a": {"not": {}}}}), "response_format", "not"),
        (schema_of(BOMBS["deep"]), "response_format", "deep"),
        (schema_of({"type": "array", "items": {"pattern": "(?i)x"}}), "response_format", "items: a pattern"),
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs", "unclosed group"),
        ({"structured_outputs": {"grammar": "start: other"}}, "structured_outputs", "other"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "one format"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "at least 1"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
            "one format",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", ""),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
            "pattern",
        ),
        ({"response_format": {"type": "json_object"}, "stop": "}"}, "stop", "stop"),
        ({"tools": []}, "tools", ""),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "required"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", ""),
        ({"tools": [tool("f"), tool("f")]}, "tools", "f"),
        ({"tools": [tool("f", parameters={"type": "array"})]}, "tools", "f's parameters"),
        (
            {"tools": [tool("g"), tool("f", parameters=closed(a={"format": "ean"}))]},
            "tools",
            "parameters of f",
        ),
        ({"tools": [tool("f")], "stop": "x"}, "stop", "stop"),
        ({"tool_choice": "required"}, "tool_choice", "tools"),
        (
            {"tools": [tool("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "g",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "required"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_call_id": "y"}]},
            "messages[0].tool_call_id",
            "role",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "x", "type": "function", "function": {"name": "f", "arguments": "[1"}}
                        ],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
            "JSON object",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(
    served: House, fields: dict[str, Any], param: str, says: str
) -> None:
    reply = served.chat("hi", **fields)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param), error
    assert says in error["message"]


def test_hostile_formats_disturb_nobody(
    served: House, client: OpenAI, world: World, leaning: dict[str, Any]
) -> None:
    """While bombs come in, free and formed neighbours get what they get alone; every bomb gets its 400."""
    formed = {"messages": ASKED, "seed": 3, **schema_of(TREE), **leaning}
    free = {"model": "seedling", "messages": ASKED, "temperature": 0, "max_tokens": 60}
    alone = [client.chat.completions.create(**asked).choices[0].message.content for asked in (formed, free)]
    a = str(world.tokenizer.encode("a", special=False)[0])
    bombs = [schema_of(schema) for schema in BOMBS.values()]
    bombs += [
        {"structured_outputs": {"grammar": lark}} for lark in HOSTILE_LARK.values() if len(lark) < 2**16
    ]
    bombs += [{"structured_outputs": {"regex": "((a{0,99}){0,99}){0,99}b"}, "logit_bias": {a: 100}}]

    told: list[httpx2.Response] = []

    def throw() -> None:
        told.extend(served.chat("hi", **{"max_tokens": 400, **bomb}) for bomb in bombs)

    thrower = threading.Thread(target=throw)
    thrower.start()
    try:
        for _ in range(5):
            said = [client.chat.completions.create(**a).choices[0].message.content for a in (formed, free)]
            assert said == alone
    finally:
        thrower.join()
    assert [reply.status_code for reply in told] == [400] * len(bombs)


@pytest.mark.parametrize("digits", [400, 4200, 6000])
@pytest.mark.parametrize("word", ["exclusiveMinimum", "multipleOf", "minLength"])
def test_a_number_of_many_digits_is_the_caller_s_fault(served: House, word: str, digits: int) -> None:
    schema = f'{{"type": "number", "{word}": 1{"0" * digits}}}'
    body = json.dumps({"model": "seedling", "messages": ASKED, "max_tokens": 9, **schema_of({"x": 1})})
    told = httpx2.post(
        f"{served.url}/v1/chat/completions",
        content=body.replace('{"x": 1}', schema),
        headers={"Authorization": f"Bearer {served.member}", "Content-Type": "application/json"},
    )
    assert told.status_code == 400, told.text


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────

WEATHER = closed(city={"type": "string", "maxLength": 8}, days={"enum": [1, 7]})
TOOLS: Any = [tool("weather", description="The weather.", parameters=WEATHER, strict=True), tool("now")]


def test_calls_come_whole_and_streamed(client: OpenAI, leaning: dict[str, Any]) -> None:
    asked: dict[str, Any] = {
        "messages": ASKED,
        "tools": TOOLS,
        "tool_choice": "required",
        "seed": 11,
        "n": 3,
        **leaning,
    }
    whole = client.chat.completions.create(**asked)
    streamed: dict[int, list[dict[str, str]]] = {0: [], 1: [], 2: []}
    reasons = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
        for news in choice.delta.tool_calls or ():
            calls = streamed[choice.index]
            assert news.function is not None and news.function.arguments is not None
            if news.id:
                assert news.index == len(calls) and news.type == "function" and news.function.name
                calls.append({"name": news.function.name, "arguments": ""})
            calls[news.index]["arguments"] += news.function.arguments
    for choice in whole.choices:
        message = choice.message
        assert message.content is None and message.tool_calls and choice.finish_reason == "tool_calls"
        assert len({call.id for call in message.tool_calls}) == len(message.tool_calls)
        told = [{"name": c.function.name, "arguments": c.function.arguments} for c in message.tool_calls]  # type: ignore[union-attr]
        assert streamed[choice.index] == told and reasons[choice.index] == "tool_calls"
        for call in told:
            schema = WEATHER if call["name"] == "weather" else closed()
            jsonschema.validate(json.loads(call["arguments"]), schema)


def test_a_choice_of_tools_is_kept(client: OpenAI, leaning: dict[str, Any]) -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}
    choices: list[tuple[Any, set[str]]] = [
        ({"type": "function", "function": {"name": "now"}}, {"now"}),
        ({"type": "allowed_tools", "allowed_tools": allowed}, {"now"}),
        ("none", set()),
    ]
    for choice, names in choices:
        is_named = isinstance(choice, dict) and choice["type"] == "function"
        more = {} if is_named else {"parallel_tool_calls": False}  # a named function is called once anyway
        reply = client.chat.completions.create(
            messages=ASKED, tools=TOOLS, tool_choice=choice, seed=2, **more, **leaning
        )
        calls = reply.choices[0].message.tool_calls or []
        assert {call.function.name for call in calls} == names  # type: ignore[union-attr]
        assert len(calls) <= 1


class Weather(BaseModel):
    city: str = Field(max_length=6)


def test_the_package_s_own_tools_are_parsed(client: OpenAI, leaning: dict[str, Any]) -> None:
    reply = client.chat.completions.parse(
        messages=ASKED,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        parallel_tool_calls=False,
        seed=4,
        **leaning,
    )
    (call,) = reply.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Weather)


def test_a_conversation_with_calls_and_results_goes_on(client: OpenAI, leaning: dict[str, Any]) -> None:
    first = client.chat.completions.create(
        messages=ASKED, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=6, **leaning
    ).choices[0]
    assert first.message.tool_calls
    messages = [
        *ASKED,
        first.message.model_dump(exclude_none=False),
        {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": "Sunny."},
    ]
    reply = client.chat.completions.create(messages=messages, tools=TOOLS, **leaning | {"max_tokens": 8})
    assert reply.usage is not None and reply.usage.prompt_tokens > 100
    longer = client.chat.completions.create(messages=ASKED, tools=TOOLS, **leaning | {"max_tokens": 8})
    assert longer.usage is not None and reply.usage.prompt_tokens > longer.usage.prompt_tokens


def test_a_stream_of_calls_is_openai_s_frames(served: House, leaning: dict[str, Any]) -> None:
    reply = served.chat("hi", stream=True, tools=TOOLS, tool_choice="required", seed=9, **leaning)
    first, begun, *rest = [chunk["choices"][0] for chunk in events(reply)]
    assert first["delta"] == {"role": "assistant", "content": "", "refusal": None}
    (call,) = begun["delta"]["tool_calls"]
    assert set(call) == {"index", "id", "type", "function"} and call["function"]["arguments"] == ""
    assert all(set(c["delta"]) <= {"tool_calls"} for c in rest)
    assert rest[-1]["delta"] == {} and rest[-1]["finish_reason"] == "tool_calls"
