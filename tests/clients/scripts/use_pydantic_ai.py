"""pydantic-ai: agents over chat completions and over responses; text, streams, tools, structured output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydantic_ai import Agent, ModelSettings, NativeOutput, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from things import Person, Weather
from walk import BASE_URL, KEY, MODEL, QUESTION, did


async def main() -> None:
    provider = OpenAIProvider(base_url=BASE_URL, api_key=KEY)
    await over("chat", OpenAIChatModel(MODEL, provider=provider))
    await over("responses", OpenAIResponsesModel(MODEL, provider=provider))


async def over(name: str, model: Model) -> None:
    """The whole walk over one of the two wires."""
    agent = Agent(model, model_settings={"temperature": 0.0, "max_tokens": 24})
    whole = await agent.run(QUESTION)
    assert whole.output and whole.usage.output_tokens > 0
    did(f"{name}: text")
    async with agent.run_stream(QUESTION) as stream:
        assert await stream.get_output() == whole.output
    did(f"{name}: stream")
    longer = ModelSettings(temperature=0.0, max_tokens=96)
    for way in (ToolOutput(Person), NativeOutput(Person)):
        found = await Agent(model, output_type=way, model_settings=longer).run(QUESTION)
        assert isinstance(found.output, Person)
    did(f"{name}: structured output")
    asked: list[str] = []
    helped = Agent(model, output_type=weather(asked), model_settings=longer)
    assert (await helped.run(QUESTION)).output == "sunny" and asked
    did(f"{name}: tools")
    follow = await agent.run("And on which floor?", message_history=whole.new_messages())
    assert len(follow.all_messages()) == 4
    did(f"{name}: a second turn")


def weather(asked: list[str]) -> Callable[[Weather], str]:
    def weather(where: Weather) -> str:
        """The weather of a city."""
        asked.append(where.city)
        return "sunny"

    return weather


asyncio.run(main())
