"""llama-index's OpenAILike: chat, completions, streams, tools, structured output, embeddings."""

from __future__ import annotations

import asyncio

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from things import Person
from walk import BASE_URL, KEY, MODEL, QUESTION, did


def floor_of(name: str) -> str:
    """The floor on which somebody works."""
    return f"{name}: 3"


def main() -> None:
    model = like(is_chat_model=True, max_tokens=24)
    asked = [ChatMessage(role="user", content=QUESTION)]
    whole = model.chat(asked).message.content
    assert whole
    assert model.complete(QUESTION).text == whole
    did("chat")
    assert list(model.stream_chat(asked))[-1].message.content == whole
    did("stream")

    async def in_async() -> str:
        return str((await model.achat(asked)).message.content)

    assert asyncio.run(in_async()) == whole
    did("asynchronous")
    plain = like(is_chat_model=False, max_tokens=8)
    assert plain.complete("own your models").text == list(plain.stream_complete("own your models"))[-1].text
    did("completions")
    calling = like(is_chat_model=True, max_tokens=64)
    called = calling.chat_with_tools(
        [FunctionTool.from_defaults(floor_of)], user_msg=QUESTION, tool_required=True
    )
    (call,) = calling.get_tool_calls_from_response(called)
    assert call.tool_name == "floor_of"
    did("tools")
    found = calling.structured_predict(Person, PromptTemplate("{asked}"), asked=QUESTION)
    assert isinstance(found, Person)
    did("structured output")
    vectors = OpenAILikeEmbedding(model_name=MODEL, api_base=BASE_URL, api_key=KEY)
    assert len(vectors.get_text_embedding("harbour")) == len(vectors.get_query_embedding("office")) > 0
    did("embeddings")


def like(*, is_chat_model: bool, max_tokens: int) -> OpenAILike:
    return OpenAILike(
        model=MODEL,
        api_base=BASE_URL,
        api_key=KEY,
        is_chat_model=is_chat_model,
        is_function_calling_model=is_chat_model,
        context_window=1024,
        temperature=0,
        max_tokens=max_tokens,
        max_retries=0,
    )


main()
