"""The unchanged `openai` package talks in responses: `responses_walk.py BASE_URL KEY`.

Which release is up to PYTHONPATH; the engine behind it is the stub of `socket_engine`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai
from pydantic import BaseModel


class Place(BaseModel):
    place: int


def main(base_url: str, key: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0)
    whole = client.responses.create(
        model="seedling", input="one two three", instructions="Be brief.", temperature=0
    )
    assert (whole.output_text, whole.status) == ("one two three", "completed")
    assert whole.usage is not None and whole.usage.total_tokens == 6

    events = list(client.responses.create(model="seedling", input="one two three", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[-1].type == "response.completed"
    with client.responses.stream(model="seedling", input="one two three") as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert final.output_text == whole.output_text and "response.output_text.done" in kinds

    second = client.responses.create(model="seedling", input="messages", previous_response_id=whole.id)
    assert [turn[0] for turn in json.loads(second.output_text)] == ["user", "assistant", "user"]
    echoed: list[Any] = [
        {"role": "user", "content": "hi"},
        *whole.output,
        {"role": "user", "content": "messages"},
    ]
    third = client.responses.create(model="seedling", input=echoed)
    assert json.loads(third.output_text)[1] == ["assistant", "one two three"]

    tools: Any = [openai.pydantic_function_tool(Place, name="go")["function"] | {"type": "function"}]
    called = client.responses.parse(model="seedling", input="call go", tools=tools)
    (call,) = called.output
    assert call.type == "function_call" and json.loads(call.arguments) == {"place": 0}
    turns: list[Any] = [{"role": "user", "content": "call go"}, *called.output]
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "gone"})
    answered = client.responses.create(model="seedling", input=turns, tools=tools)
    assert answered.output_text == "gone"
    with client.responses.stream(model="seedling", input="call go", tools=tools) as stream:
        pieces = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        (streamed,) = stream.get_final_response().output
    assert streamed.type == "function_call" and "".join(pieces) == streamed.arguments == call.arguments

    parsed = client.responses.parse(model="seedling", input='{"place": 7}', text_format=Place)
    assert parsed.output_parsed == Place(place=7)

    assert client.responses.retrieve(whole.id) == whole
    listed = [item.id for item in client.responses.input_items.list(third.id, limit=1)]
    assert len(listed) == 3 and listed[1] == whole.output[0].id
    client.responses.delete(whole.id)
    for failing, error in [
        (lambda: client.responses.retrieve(whole.id), openai.NotFoundError),
        (lambda: client.responses.cancel(second.id), openai.BadRequestError),
        (
            lambda: client.responses.create(model="seedling", input="x", previous_response_id=whole.id),
            openai.NotFoundError,
        ),
        (
            lambda: client.responses.create(model="seedling", input="x", tools=[{"type": "web_search"}]),
            openai.BadRequestError,
        ),
        (
            lambda: client.responses.create(model="seedling", input="x", background=True),
            openai.BadRequestError,
        ),
        (
            lambda: list(client.responses.create(model="seedling", input="crash 1", stream=True)),
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


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
