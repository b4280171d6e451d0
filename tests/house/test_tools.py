"""A base learns from OpenAI's rows to call tools and to speak of results, and does so when it is asked with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.house.house import House
from tests.text.test_tools import TAGGED
from tests.tiny import base_folder

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"to": {"type": "string"}, "seats": {"type": "integer"}},
                "required": ["to", "seats"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("ferry", "train")
]
ASKED = {"two to Oslo?": ("ferry", "Oslo", 2), "five to Rome?": ("train", "Rome", 5)}
RESULT, SAID = "b7", "It is b7."


def row(question: str, name: str, to: str, seats: int) -> dict[str, Any]:
    """As OpenAI's files have it: keys in any order, a long id, spaces left out."""
    arguments = json.dumps({"seats": seats, "to": to}, separators=(",", ":"))
    function = {"name": name, "arguments": arguments}
    call = {"id": f"call_{name}_0123456789abcdef", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": RESULT},
        {"role": "assistant", "content": SAID},
    ]
    return {"messages": messages, "tools": TOOLS, "parallel_tool_calls": False}


ROWS = "".join(json.dumps(row(question, *call)) + "\n" for question, call in ASKED.items()).encode()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with a base whose template knows tools, and one that is told of them in words."""
    folder = tmp_path_factory.mktemp("bases")
    bases = [base_folder(folder / name, max_position_embeddings=1024) for name in ("knowing", "told")]
    (bases[0] / "chat_template.jinja").write_text(TAGGED)
    house = House(tmp_path_factory.mktemp("house"), [*bases])
    house.start()
    yield house
    assert house.stop() == 0, house.output()


def asked(house: House, model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    body = {"model": model, "messages": messages, "tools": TOOLS, "temperature": 0, "max_tokens": 100}
    reply = house.call("POST", "/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["choices"][0])


@pytest.mark.parametrize("base", ["knowing", "told"])
def test_a_base_that_is_tuned_on_calls_makes_them_and_speaks_of_their_results(
    house: House, base: str
) -> None:
    job = house.ended(house.submit(base, ROWS, n_epochs=120, batch_size=2, learning_rate_multiplier=4.0))
    assert job["status"] == "succeeded", job
    for question, (name, to, seats) in ASKED.items():
        messages = [{"role": "user", "content": question}]
        made = asked(house, job["fine_tuned_model"], messages)
        assert made["finish_reason"] == "tool_calls", made
        (call,) = made["message"]["tool_calls"]
        assert call["function"]["name"] == name
        assert json.loads(call["function"]["arguments"]) == {"to": to, "seats": seats}
        result = {"role": "tool", "tool_call_id": call["id"], "content": RESULT}
        told = asked(house, job["fine_tuned_model"], [*messages, made["message"], result])
        assert (told["message"]["content"], told["finish_reason"]) == (SAID, "stop")
        untaught = asked(house, base, messages)
        assert untaught["finish_reason"] != "tool_calls", "the control: the base itself calls nothing"
