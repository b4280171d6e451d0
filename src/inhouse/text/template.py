"""Conversations to tokens: the only place where a chat template is applied, for training and serving alike.

A conversation is tokenised in segments that end where a reply begins and where it ends. Serving sees a reply's
prompt alone, so training must see it in the same pieces: a merge across the boundary would train on tokens that
serving never meets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from inhouse.errors import BadCheckpoint, InvalidRequest
from inhouse.schema import Message, Tool, ToolCall
from inhouse.text import renderer
from inhouse.text import tools as calling
from inhouse.text.sandbox import Template
from inhouse.text.tokenizer import Tokenizer
from inhouse.text.tools import PLAIN as PLAIN_CALLS
from inhouse.text.tools import CallForm

MAX_TEMPLATE_CHARS = 256 * 1024
MAX_CUT_REPLIES = 32
"""Earlier replies that a prompt is cut around; a longer conversation is tokenised whole."""
_SEAM = "\ufdd0"
"""A noncharacter of Unicode. It is put inside special tokens that stand in a message's text, and the tokenizer is
never shown the two sides together: what a user writes is text, whatever it looks like."""

PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' else '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
"""For checkpoints without a template of their own: bases that were never taught to chat."""

Segment = tuple[str, bool]
"""Text, and whether it is a reply that training may learn."""


class ChatTemplate:
    """One checkpoint's chat template, bound to its tokenizer."""

    def __init__(self, source: str, tokenizer: Tokenizer, trusted: Collection[str] = ()) -> None:
        """`trusted` adds digests of templates that are rendered in this process. Raises BadCheckpoint."""
        if len(source) > MAX_TEMPLATE_CHARS:
            raise BadCheckpoint(
                f"The chat template has {len(source)} characters; {MAX_TEMPLATE_CHARS} is the limit."
            )
        self._tokenizer = tokenizer
        self._specials = re.compile("|".join(map(re.escape, tokenizer.special_texts)) or r"(?!)")
        self.digest = renderer.digest_of(source)
        self.is_trusted = renderer.is_trusted(source, trusted)
        self._template = Template(source) if self.is_trusted else renderer.Guarded(source)
        self.stop_ids = tokenizer.eos_ids | self._reply_end()
        self._own_calls = self._find_calls()

    @classmethod
    def load(cls, folder: Path, tokenizer: Tokenizer, trusted: Collection[str] = ()) -> ChatTemplate:
        """chat_template.jinja, else the one in tokenizer_config.json, else PLAIN."""
        own = folder / "chat_template.jinja"
        if own.is_file():
            try:
                return cls(own.read_text(encoding="utf-8"), tokenizer, trusted)
            except UnicodeDecodeError as e:
                raise BadCheckpoint(f"{own} is not UTF-8 ({e}). Save it as UTF-8.") from e
        config = folder / "tokenizer_config.json"
        source = (
            json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
        )
        if isinstance(source, list):  # several named ones: the default is for chat
            source = next((t.get("template") for t in source if t.get("name") == "default"), None)
        return cls(source if isinstance(source, str) else PLAIN, tokenizer, trusted)

    @property
    def calls(self) -> CallForm:
        """How this checkpoint writes tool calls: its template's own form, or the plain one that it is told of."""
        return self._own_calls or PLAIN_CALLS

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[int]:
        """Ids that ask for the next reply. Raises InvalidRequest when the template refuses the conversation."""
        told, offered = self._worded(messages, tools)
        return [i for text, _ in self._segments(told, offered) for i in self._encode(text)]

    def example(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[list[int], list[bool]]:
        """Ids of a conversation, and for each whether it is trained: the last of its examples."""
        return self.examples(messages, tools)[-1]

    def examples(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> list[tuple[list[int], list[bool]]]:
        """Ids of a whole conversation, and for each whether it is trained: replies, up to their end token.

        It is one example where the template only appends. Where it writes an earlier reply otherwise than a model does
        (without its thoughts, or with the ids of its calls), each trained reply is an example of its own, behind the
        prompt that serving asks for it with. Raises InvalidRequest where the template refuses the conversation, or
        writes calls as they would not be read.
        """
        told, offered = self._worded(messages, tools)
        before = len(told) - len(messages)  # a message that tells of the tools
        replies = [i for i, m in enumerate(told) if m.role == "assistant"]
        whole = self.render(told, ask=False, tools=offered)
        segments = self._cut(told, replies, whole, offered)
        only_appends = segments is not None
        trained: dict[int, str] = {}
        for number, i in enumerate(replies):
            text = self._reply(told, i, offered) if segments is None else segments[2 * number + 1][0]
            if told[i].weight == 0 or text is None:
                continue
            reply = calling.without_ids(text, [call.id for call in told[i].tool_calls])
            only_appends = only_appends and reply == text
            self._check_reply(messages[i - before], reply, f"messages[{i - before}]")
            trained[i] = reply
        if segments is not None and only_appends:
            return [self._ids(segments)]
        asked = {i: [(text, False) for text, _ in self._segments(told[:i], offered)] for i in trained}
        found = [self._ids([*asked[i], (reply, True)]) for i, reply in trained.items()]
        return found or [self._ids([(whole, False)])]

    def render(self, messages: Sequence[Message], *, ask: bool, tools: Sequence[Tool] = ()) -> str:
        """The template's text; `ask` ends it where a reply begins. Raises InvalidRequest where it refuses them."""
        try:
            variables = {
                "messages": [self._plain(m) for m in messages],
                "tools": [self._inert(calling.wire(tool)) for tool in tools] or None,
                "add_generation_prompt": ask,
                **self._tokenizer.named,
            }
        except (ValueError, RecursionError) as e:  # a call's arguments that are no JSON
            raise InvalidRequest(f"The conversation cannot be written out: {e}.", param="messages") from e
        return self._template.render(variables)

    def _worded(
        self, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> tuple[Sequence[Message], Sequence[Tool]]:
        """Conversation and tools as the template is given them: all in words where it has no form for calls."""
        if self._own_calls is None:
            return calling.described(messages, tools), ()
        return [calling.written(message, tools) for message in messages], tools

    def _reply(self, messages: Sequence[Message], i: int, tools: Sequence[Tool]) -> str | None:
        """The i-th message's own text; None where the template does not append it to what asks for it."""
        start = self.render(messages[:i], ask=True, tools=tools)
        end = self.render(messages[: i + 1], ask=False, tools=tools)
        return end[len(start) :] if end.startswith(start) else None

    def _check_reply(self, message: Message, reply: str, where: str) -> None:
        """Raises InvalidRequest where what a reply says or calls would not be read off its text."""
        if not message.tool_calls:
            return
        said, called = calling.read_calls(self.calls, reply.replace(_SEAM, ""))
        wanted = [(call.name, json.loads(call.arguments)) for call in message.tool_calls]
        try:
            is_read = [(name, json.loads(arguments)) for name, arguments in called] == wanted
        except ValueError:
            is_read = False
        if not is_read or (message.text.strip() and not said.strip()):
            raise InvalidRequest(
                f"{where}: this base's chat template does not write these calls as they could be read off a reply. "
                "Write one call a reply and no text before it, or take another base.",
                param="messages",
            )

    def _ids(self, segments: Sequence[Segment]) -> tuple[list[int], list[bool]]:
        ids: list[int] = []
        trained: list[bool] = []
        for text, is_reply in segments:
            piece = self._encode(text)
            end = next((i + 1 for i, t in enumerate(piece) if t in self.stop_ids), len(piece))
            ids += piece
            trained += [is_reply and i < end for i in range(len(piece))]
        return ids, trained

    def _segments(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Segment]:
        """What asks for the next reply, cut where earlier replies begin and end."""
        replies = [i for i, m in enumerate(messages) if m.role == "assistant"]
        whole = self.render(messages, ask=True, tools=tools)
        if len(replies) > MAX_CUT_REPLIES:
            return [(whole, False)]
        for kept in (
            replies,
            replies[-1:],
        ):  # a template may rewrite earlier replies: then only the last is cut out
            segments = self._cut(messages, kept, whole, tools)
            if segments is not None:
                return segments
        return [(whole, False)]

    def _cut(
        self, messages: Sequence[Message], replies: list[int], whole: str, tools: Sequence[Tool]
    ) -> list[Segment] | None:
        """Segments around the replies, or None where the template does not only append."""
        segments: list[Segment] = []
        at = 0
        for i in replies:
            start = self.render(messages[:i], ask=True, tools=tools)
            end = self.render(messages[: i + 1], ask=False, tools=tools)
            if not (end.startswith(start) and whole.startswith(end) and len(start) >= at):
                return None
            segments += [
                (whole[at : len(start)], False),
                (whole[len(start) : len(end)], messages[i].weight != 0),
            ]
            at = len(end)
        return [*segments, (whole[at:], False)]

    def _reply_end(self) -> frozenset[int]:
        """The special token that the template puts behind a reply."""
        try:
            asked = self.render([Message(role="user", content="a")], ask=True)
            told = self.render(
                [Message(role="user", content="a"), Message(role="assistant", content="b")], ask=False
            )
        except InvalidRequest:
            return frozenset()
        if not told.startswith(asked):
            return frozenset()
        tail = self._encode(told[len(asked) :].split("b", 1)[-1])
        return frozenset([t for t in tail if self._tokenizer.is_special(t)][:1])

    def _find_calls(self) -> CallForm | None:
        """The template's own form of calls; None where it has none, or is not told of tools."""
        asked, tool = Message(role="user", content="a"), Tool(name="probe_first", description="probe_words")

        def write(calls: Sequence[ToolCall]) -> str | None:
            try:
                start = self.render([asked], ask=True, tools=[tool])
                called = Message(role="assistant", content="", tool_calls=tuple(calls))
                told = self.render([asked, called], ask=False, tools=[tool])
            except InvalidRequest:
                return None
            is_told = "probe_words" in start and told.startswith(start)
            return told[len(start) :] if is_told else None

        ends = [self._tokenizer.token_text(token) for token in sorted(self.stop_ids)]
        return calling.find_form(write, ends)

    def _encode(self, text: str) -> list[int]:
        return [
            i for piece in text.split(_SEAM) if piece for i in self._tokenizer.encode(piece, special=False)
        ]

    def _plain(self, message: Message) -> dict[str, Any]:
        """A message as templates know it. They predate the developer role, which means system."""
        role = "system" if message.role == "developer" else message.role
        plain: dict[str, Any] = {"role": role, "content": self._as_text(message.text)}
        if message.name is not None:
            plain["name"] = self._as_text(message.name)
        if message.tool_call_id is not None:
            plain["tool_call_id"] = calling.short_id(message.tool_call_id)
        if message.tool_calls:
            plain["tool_calls"] = [
                {
                    "type": "function",
                    "id": calling.short_id(call.id),
                    "function": {"name": call.name, "arguments": self._inert(json.loads(call.arguments))},
                }
                for call in message.tool_calls
            ]
        return plain

    def _inert(self, value: Any) -> Any:
        """A JSON value whose texts cannot read as special tokens."""
        if isinstance(value, dict):
            return {self._as_text(key): self._inert(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._inert(each) for each in value]
        return self._as_text(value) if isinstance(value, str) else value

    def _as_text(self, text: str) -> str:
        """The text with a seam inside whatever would read as a special token. Raises InvalidRequest."""
        if _SEAM in text:
            raise InvalidRequest(
                "A message holds U+FDD0, which is no character. Remove it.", param="messages"
            )
        return self._specials.sub(lambda match: match[0][:1] + _SEAM + match[0][1:], text)
