"""One chat template in Jinja's sandbox, rendered within limits on what comes out.

It knows templates and JSON values: no tokens, no messages. The sandbox keeps a template from reaching anything but what
it is given. It does not keep it from taking time and memory on the way: `renderer` does.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inhouse.errors import BadCheckpoint, InvalidRequest

MAX_PROMPT_CHARS = 16 * 2**20
MAX_REPEATED = 1_000_000
"""Longest text or list that a template may make by multiplication."""


class Template:
    """A template's text, compiled."""

    def __init__(self, source: str) -> None:
        """Raises BadCheckpoint for what is no Jinja."""
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateError, RecursionError) as e:
            raise BadCheckpoint(f"The chat template is not valid Jinja: {e}.") from e

    def render(self, variables: Mapping[str, Any]) -> str:
        """Its text with these JSON values. Raises InvalidRequest where it refuses them, or says too much."""
        try:
            parts, size = [], 0
            for part in self._template.generate(**variables):
                size += len(part)
                if size > MAX_PROMPT_CHARS:
                    raise InvalidRequest(
                        f"The rendered prompt passes {MAX_PROMPT_CHARS} characters.", param="messages"
                    )
                parts.append(part)
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            RecursionError,
        ) as e:
            raise InvalidRequest(
                f"The base's chat template refuses this conversation: {e}.", param="messages"
            ) from e
        return "".join(parts)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which multiplication cannot fill the memory."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise jinja2.TemplateError("powers are not allowed")
        for sized, times in ((left, right), (right, left)):
            if hasattr(sized, "__len__") and isinstance(times, int) and len(sized) * times > MAX_REPEATED:
                raise jinja2.TemplateError(f"a product longer than {MAX_REPEATED} is not allowed")
        return super().call_binop(context, operator, left, right)


def _environment() -> ImmutableSandboxedEnvironment:
    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols"],
        optimized=False,  # constants would be computed before the sandbox sees them
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now(datetime.UTC).strftime(form)
    return environment
