"""openai-agents, over responses and over chat: a tool that is called, streams, structured output, sessions."""

from __future__ import annotations

import asyncio

import openai
from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from things import Person, Weather
from walk import BASE_URL, KEY, MODEL, QUESTION, did


async def main() -> None:
    set_tracing_disabled(True)  # traces would go to OpenAI
    client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEY)
    await over("responses", OpenAIResponsesModel(model=MODEL, openai_client=client))
    await over("chat", OpenAIChatCompletionsModel(model=MODEL, openai_client=client))


async def over(name: str, model: Model) -> None:
    """The whole walk over one of the two wires."""
    asked: list[str] = []

    @function_tool
    def weather(where: Weather) -> str:
        """The weather of a city."""
        asked.append(where.city)
        return "sunny"

    agent = Agent("clerk", model=model, model_settings=ModelSettings(temperature=0, max_tokens=24))
    whole = await Runner.run(agent, QUESTION)
    assert whole.final_output
    did(f"{name}: text")
    streamed = Runner.run_streamed(agent, QUESTION)
    kinds = [event.type async for event in streamed.stream_events()]
    assert streamed.final_output == whole.final_output and "raw_response_event" in kinds
    did(f"{name}: stream")
    # One call alone: a model as small as this, free to call as often as it likes, calls on and on.
    forced = ModelSettings(temperature=0, max_tokens=96, tool_choice="required", parallel_tool_calls=False)
    helped = Agent("clerk", model=model, tools=[weather], model_settings=forced)
    answered = await Runner.run(helped, QUESTION, max_turns=3)
    assert answered.final_output is not None and asked
    did(f"{name}: a tool, and what follows from it")
    longer = ModelSettings(temperature=0, max_tokens=96)
    typed = Agent("clerk", model=model, output_type=Person, model_settings=longer)
    assert isinstance((await Runner.run(typed, QUESTION)).final_output, Person)
    did(f"{name}: structured output")
    session = SQLiteSession(name)
    await Runner.run(agent, QUESTION, session=session)
    await Runner.run(agent, "And who else?", session=session)
    assert len(await session.get_items()) == 4
    did(f"{name}: a session of two turns")


asyncio.run(main())
