"""instructor: the same question answered as an object, by each of its ways to ask for one."""

from __future__ import annotations

import asyncio
from typing import Any

import instructor
import openai
from things import Person
from walk import BASE_URL, KEY, MODEL, QUESTION, did

ASKED: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 96,
    "max_retries": 0,
}


def main() -> None:
    plain = openai.OpenAI(base_url=BASE_URL, api_key=KEY)
    for mode in ("TOOLS", "TOOLS_STRICT", "JSON_SCHEMA"):
        client = instructor.from_openai(plain, mode=instructor.Mode[mode])
        person, reply = client.chat.completions.create_with_completion(response_model=Person, **ASKED)
        assert isinstance(person, Person) and reply.usage.total_tokens > 0
        did(f"structured output ({mode})")
    client = instructor.from_openai(plain, mode=instructor.Mode.JSON_SCHEMA)
    partials = list(client.chat.completions.create_partial(response_model=Person, **ASKED))
    assert len(partials) > 1 and partials[-1].name == person.name
    did("streamed object")

    async def in_async() -> Person:
        client = instructor.from_openai(openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEY))
        return await client.chat.completions.create(response_model=Person, **ASKED)

    assert isinstance(asyncio.run(in_async()), Person)
    did("asynchronous")


main()
