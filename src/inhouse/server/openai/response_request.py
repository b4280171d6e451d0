"""The body of a response: what may be asked, what each field becomes for an engine, and how it is told back.

What is accepted without effect is listed in `sampling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Tag
from pydantic_core import PydanticCustomError

from inhouse.errors import InvalidRequest
from inhouse.schema import MAX_TOOLS, EngineRequest, MemoryUse, Structure, ToolUse
from inhouse.server import body, memory
from inhouse.server.openai import tools
from inhouse.server.openai.formats import JsonSchema, Name, ResponseFormat, structure_of
from inhouse.server.openai.response_items import Input, by_type, conversation
from inhouse.server.openai.sampling import Asked
from inhouse.server.openai.tools import AllowedChoice, NamedTool

LOGPROBS = "message.output_text.logprobs"


class StreamOptions(body.RequestBody):
    include_obfuscation: Literal[False] | None = None


class TextFormat(body.RequestBody):
    """The format that the reply's text keeps. Name and description are labels, and `strict` is so anyway."""

    model_config = ConfigDict(**body.RequestBody.model_config, validate_by_name=True, validate_by_alias=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    def chat(self) -> ResponseFormat:
        """The same on chat's wire. Raises InvalidRequest."""
        is_named = self.name is not None and self.schema_ is not None
        if self.type == "json_schema" and not is_named:
            raise InvalidRequest(
                "The type json_schema has a name and a schema. Give both.",
                param="text.format",
                code="missing_required_parameter",
            )
        given = (self.name, self.description, self.strict, self.schema_)
        if self.type != "json_schema":
            if given != (None,) * 4:
                raise InvalidRequest(f"The type {self.type} has no other field.", param="text.format")
            return ResponseFormat(type=self.type)
        schema = JsonSchema(name=self.name or "", strict=self.strict, schema_=self.schema_)
        return ResponseFormat(type=self.type, json_schema=schema)

    def wire(self) -> dict[str, Any]:
        shown = self.model_dump(by_alias=True, exclude_none=True)
        return shown | ({"strict": bool(self.strict)} if self.type == "json_schema" else {})


class TextOptions(body.RequestBody):
    format: TextFormat | None = None
    verbosity: None = None


def _is_function(value: Any) -> Any:
    if isinstance(value, Mapping) and value.get("type") != "function":
        raise PydanticCustomError(body.UNSUPPORTED, "this server offers only tools of the type function")
    return value


class FunctionTool(body.RequestBody):
    """A function that the reply may call. Said strict or not, arguments keep to the parameters."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    output_schema: None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: None = None

    def chat(self) -> tools.FunctionTool:
        function = tools.Function(name=self.name, description=self.description, parameters=self.parameters)
        return tools.FunctionTool(type="function", function=function)

    def wire(self) -> dict[str, Any]:
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": self.strict is not False,
        }


class FunctionChoice(body.RequestBody):
    type: Literal["function"]
    name: Name

    def chat(self) -> NamedTool:
        return NamedTool(type="function", function=tools.NamedFunction(name=self.name))


class AllowedTools(body.RequestBody):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Field(min_length=1, max_length=MAX_TOOLS)]

    def chat(self) -> AllowedChoice:
        allowed = tools.AllowedTools(mode=self.mode, tools=[tool.chat() for tool in self.tools])
        return AllowedChoice(type="allowed_tools", allowed_tools=allowed)


Choice = (
    Literal["none", "auto", "required"]
    | Annotated[
        Annotated[FunctionChoice, Tag("FunctionChoice")] | Annotated[AllowedTools, Tag("AllowedTools")],
        by_type({"function": "FunctionChoice", "allowed_tools": "AllowedTools"}),
    ]
)


class ResponseRequest(Asked):
    """The body of a response."""

    only_these: ClassVar[dict[str, str]] = Asked.only_these | {
        "background": "false",
        "truncation": "disabled",
        "include": LOGPROBS,
    }

    input: Input
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    store: bool | None = None
    stream_options: StreamOptions | None = None
    text: TextOptions | None = None
    tools: (
        Annotated[list[Annotated[FunctionTool, BeforeValidator(_is_function)]], Field(max_length=MAX_TOOLS)]
        | None
    ) = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=8)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    x_memory: memory.Name | memory.MemoryRequest | None = None
    """The memory whose facts to answer from beside the model, by name, or with how to use it."""

    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None

    context_management: None = None
    stop: None = None
    conversation: None = None
    max_tool_calls: None = None
    moderation: None = None
    prompt: None = None
    prompt_cache_options: None = None
    reasoning: None = None

    @property
    def is_stored(self) -> bool:
        return self.store is not False

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.include)

    def engine_request(
        self,
        id: str,
        project: str,
        adapter: str | None,
        use: MemoryUse | None,
        items: Sequence[Mapping[str, Any]],
    ) -> EngineRequest:
        """What the engine is asked, `items` being the whole conversation. Raises InvalidRequest."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(
                "stream_options needs stream: true. Set it or leave stream_options out.",
                param="stream_options",
            )
        if self.top_logprobs and not self.wants_logprobs:
            raise InvalidRequest(f'top_logprobs needs include: ["{LOGPROBS}"].', param="top_logprobs")
        return EngineRequest(
            id=id,
            project=project,
            priority=self.priority,
            messages=conversation(self.instructions, items),
            adapter=adapter,
            memory=use,
            structure=self._structure(),
            tools=self._tools(),
            whole=not self.stream,
            sampling=self.sampling(
                max_new_tokens=self.max_output_tokens,
                logprobs=(self.top_logprobs or 0) if self.wants_logprobs else None,
            ),
        )

    def wire(self) -> dict[str, Any]:
        """What was asked, as a response tells it back, the defaults filled in."""
        choice = self.tool_choice
        told: dict[str, Any] = {
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": None,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "prompt_cache_retention": self.prompt_cache_retention,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": self.safety_identifier,
            "service_tier": "flex" if self.service_tier == "flex" else "default",
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": {"format": self._format.wire()},
            "tool_choice": (choice or "auto")
            if choice is None or isinstance(choice, str)
            else choice.model_dump(),
            "tools": [tool.wire() for tool in self.tools or ()],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": "disabled",
        }
        return told if self.user is None else told | {"user": self.user}

    @property
    def _format(self) -> TextFormat:
        return (self.text and self.text.format) or TextFormat(type="text")

    def _structure(self) -> Structure | None:
        return structure_of(self._format.chat(), self.structured_outputs)

    def _tools(self) -> ToolUse | None:
        choice = self.tool_choice
        asked = choice if choice is None or isinstance(choice, str) else choice.chat()
        offered = [tool.chat() for tool in self.tools or ()] or None
        # without tools "auto" is what happens anyway
        without = None if offered is None and asked == "auto" else asked
        return tools.use_of(offered, without, self.parallel_tool_calls is not False)
