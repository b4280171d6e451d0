"""Conversations: messages, and the calls of functions in them."""

from __future__ import annotations

from typing import Literal

from inhouse.schema.wire import Wire

ROLES = ("system", "developer", "user", "assistant", "tool")
TOOL_NAME = r"^[a-zA-Z0-9_-]{1,64}$"
"""What a function may be called."""
MAX_TOOLS = 128
"""Offered in one conversation: OpenAI's limit."""
MOST_CALLS = 16
"""Calls in one reply. A small model may not know when to stop; then its last call would be cut by the length limit."""


class TextPart(Wire):
    """A piece of message content. Text is the only kind a text model reads."""

    type: Literal["text"]
    text: str


class ToolCall(Wire):
    """A call that a reply made; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class Message(Wire):
    """One turn of a conversation. `weight` 0 or 1 says whether a reply is trained on (training files only)."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """The call that a message of the role tool answers."""
    weight: Literal[0, 1] | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        return "".join(p.text for p in self.content) if isinstance(self.content, list) else self.content or ""
