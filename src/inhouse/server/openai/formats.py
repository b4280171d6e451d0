"""The formats that a request may ask its reply to keep, and what each becomes for an engine.

It knows OpenAI's wire. Whether a schema can be kept is the engine's to say, which builds the grammar.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from inhouse.errors import InvalidRequest
from inhouse.schema import TOOL_NAME, Structure
from inhouse.server.body import RequestBody

ANY_OBJECT: dict[str, Any] = {"type": "object"}
Name = Annotated[str, Field(pattern=TOOL_NAME)]


class JsonSchema(RequestBody):
    """A named schema. Name and description are labels; the schema is kept whether `strict` is said or not."""

    model_config = ConfigDict(**RequestBody.model_config, validate_by_name=True, validate_by_alias=True)

    name: Name
    description: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


MOST_CHOICE_CHARS = 64 * 1024
"""As of a schema and of a grammar."""


class ResponseFormat(RequestBody):
    """OpenAI's formats."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(RequestBody):
    """Formats beyond OpenAI's, under vLLM's name. One of them."""

    json_: dict[str, Any] | None = Field(default=None, alias="json")
    regex: Annotated[str, Field(max_length=4096)] | None = None
    choice: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    grammar: Annotated[str, Field(max_length=64 * 1024)] | None = None


def structure_of(format: ResponseFormat | None, outputs: StructuredOutputs | None) -> Structure | None:
    """What the reply must look like; None: any text. Raises InvalidRequest for too little or too much."""
    is_plain = format is None or format.type == "text"
    if outputs is not None:
        given = [v for v in (outputs.json_, outputs.regex, outputs.choice, outputs.grammar) if v is not None]
        if len(given) != 1 or not is_plain:
            raise InvalidRequest(
                "Ask for one format: structured_outputs with one of json, regex, choice and grammar, or "
                "response_format.",
                param="structured_outputs",
            )
        chosen = sum(map(len, outputs.choice or ()))
        if chosen > MOST_CHOICE_CHARS:
            raise InvalidRequest(
                f"structured_outputs.choice has {chosen:,} characters; {MOST_CHOICE_CHARS:,} are the most.",
                param="structured_outputs",
            )
        return Structure(
            param="structured_outputs",
            json_schema=outputs.json_,
            regex=outputs.regex,
            choice=None if outputs.choice is None else tuple(outputs.choice),
            grammar=outputs.grammar,
        )
    if format is None or format.type == "text":
        return None
    if (format.json_schema is None) == (format.type == "json_schema"):
        raise InvalidRequest(
            'The type json_schema has a json_schema, as {"name": ..., "schema": ...}; no other type has one.',
            param="response_format.json_schema",
        )
    schema = None if format.json_schema is None else format.json_schema.schema_
    return Structure(param="response_format", json_schema=ANY_OBJECT if schema is None else schema)
