"""langchain-openai: chat, streams, tools, structured output, embeddings, many at once, the Responses API."""

from __future__ import annotations

import asyncio

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from things import Person
from walk import BASE_URL, KEY, MODEL, QUESTION, did


@tool
def floor_of(name: str) -> str:
    """The floor on which somebody works."""
    return f"{name}: 3"


def main() -> None:
    model = ChatOpenAI(base_url=BASE_URL, api_key=KEY, model=MODEL, temperature=0, max_tokens=24)
    whole = model.invoke(QUESTION)
    assert isinstance(whole, AIMessage) and whole.content
    assert whole.usage_metadata["total_tokens"] > whole.usage_metadata["input_tokens"] > 0
    did("chat")
    total: AIMessageChunk | None = None
    for chunk in model.stream(QUESTION, stream_usage=True):
        total = chunk if total is None else total + chunk
    assert total.content == whole.content
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]
    did("stream")
    assert [reply.content for reply in model.batch([QUESTION] * 4)] == [whole.content] * 4
    assert asyncio.run(model.ainvoke(QUESTION)).content == whole.content
    did("many at once, asynchronous")
    bound = ChatOpenAI(base_url=BASE_URL, api_key=KEY, model=MODEL, temperature=0, max_tokens=64)
    called = bound.bind_tools([floor_of], tool_choice="floor_of").invoke(f"{QUESTION} On which floor?")
    (call,) = called.tool_calls or called.invalid_tool_calls
    assert call["name"] == "floor_of"
    answer = ToolMessage("Ines: 3", tool_call_id=call["id"])
    assert isinstance(
        model.bind_tools([floor_of]).invoke([HumanMessage(QUESTION), called, answer]), AIMessage
    )
    did("tools")
    for method in ("json_schema", "function_calling"):
        assert isinstance(bound.with_structured_output(Person, method=method).invoke(QUESTION), Person)
    did("structured output")
    said = ChatOpenAI(
        base_url=BASE_URL, api_key=KEY, model=MODEL, temperature=0, max_tokens=24, use_responses_api=True
    )
    assert said.invoke(QUESTION).text == whole.content
    pieces = "".join(chunk.text for chunk in said.stream(QUESTION))
    assert pieces == whole.content
    did("responses")
    # It counts tokens with OpenAI's own vocabulary, which it would fetch; texts go as texts instead.
    vectors = OpenAIEmbeddings(base_url=BASE_URL, api_key=KEY, model=MODEL, check_embedding_ctx_length=False)
    one, other = vectors.embed_documents(["harbour", "office"])
    assert len(one) == len(other) == len(vectors.embed_query("harbour"))
    did("embeddings")


main()
