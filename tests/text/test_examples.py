"""Calls in training: the model is shown what serving shows it, and learns what serving reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inhouse.errors import InvalidRequest
from inhouse.schema import Message, Tool, ToolCall, ToolUse
from inhouse.text import tools
from inhouse.text.grammar import Grammars
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.text.tools import read_calls
from tests import tiny
from tests.text.test_tools import BARE, LISTED, MARKED, TAGGED, UNKNOWN

TICKET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "from": {"type": "string"},
        "seat": {"anyOf": [{"$ref": "#/$defs/Seat"}, {"type": "null"}]},
        "bags": {"type": "array", "items": {"$ref": "#/$defs/Seat"}},
    },
    "$defs": {"Seat": {"type": "object", "properties": {"deck": {"type": "integer"}, "row": {}}}},
}
TOOLS = (Tool(name="book", description="Book a ferry.", parameters=TICKET), Tool(name="now"))
THINKING = TAGGED.replace(
    "{{ m.content }}",
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}",
)
"""Writes a place for thoughts in the last reply only, as Qwen3's template does."""
TEMPLATES = {
    "tagged": TAGGED,
    "listed": LISTED,
    "marked": MARKED,
    "plain": tiny.TEMPLATE,
    "described": UNKNOWN,
    "thinking": THINKING,
}
APPENDING = ("tagged", "marked", "plain", "described")


def call(name: str, id: str, **arguments: Any) -> ToolCall:
    return ToolCall(id=id, name=name, arguments=json.dumps(arguments, separators=(",", ":")))


FIRST = (
    call(
        "book", "call_abcdefgh", bags=[{"row": 2, "deck": 1}], seat={"row": "é", "deck": 3}, **{"from": "a"}
    ),
    call("now", "call_x"),
)
CHAT = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="Book one."),
    Message(role="assistant", content="Let me see.", tool_calls=FIRST),
    Message(role="tool", content="Booked.", tool_call_id="call_abcdefgh"),
    Message(role="tool", content="Noon.", tool_call_id="call_x"),
    Message(role="assistant", tool_calls=(call("now", "call_y"),)),
    Message(role="tool", content="One.", tool_call_id="call_y"),
    Message(role="assistant", content="It is booked."),
]
REPLIES = [2, 5, 7]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(folder)
    return Tokenizer.load(folder)


def taught(examples: list[tuple[list[int], list[bool]]]) -> list[tuple[list[int], list[int]]]:
    """Each trained run of tokens, and all that stands before it."""
    found = []
    for ids, trained in examples:
        starts = [i for i, on in enumerate(trained) if on and not trained[i - 1]]
        for start in starts:
            end = next((i for i in range(start, len(ids)) if not trained[i]), len(ids))
            found.append((ids[:start], ids[start:end]))
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_training_meets_the_prompts_of_serving_and_the_calls_that_are_read_off_replies(
    tokenizer: Tokenizer, name: str
) -> None:
    template = ChatTemplate(TEMPLATES[name], tokenizer)
    examples = template.examples(CHAT, TOOLS)
    assert len(examples) == (1 if name in APPENDING else len(REPLIES))
    runs = taught(examples)
    assert len(runs) == len(REPLIES)
    for i, (before, reply) in zip(REPLIES, runs, strict=True):
        assert before == template.prompt(CHAT[:i], TOOLS)
        assert reply[-1] in template.stop_ids
        said, called = read_calls(template.calls, tokenizer.decode(reply))
        assert CHAT[i].text in said
        assert [(n, json.loads(given)) for n, given in called] == [
            (c.name, json.loads(c.arguments)) for c in CHAT[i].tool_calls
        ]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_taught_call_is_one_that_serving_lets_be_made(tokenizer: Tokenizer, name: str) -> None:
    """Grammars let a call's arguments be written in one order and spacing, and without ids."""
    template = ChatTemplate(TEMPLATES[name], tokenizer)
    use = ToolUse(tools=TOOLS)
    grammar = tools.grammar_of(use, template.calls, None)
    start = Grammars(tokenizer, 264, sorted(template.stop_ids)).matcher(grammar, param="tools")
    for i, (_, reply) in zip(REPLIES, taught(template.examples(CHAT, TOOLS)), strict=True):
        assert start.accepts(tokenizer.decode(reply)), CHAT[i]


def test_a_call_of_weight_zero_is_read_and_not_trained(tokenizer: Tokenizer) -> None:
    for source in (TAGGED, THINKING, tiny.TEMPLATE):
        template = ChatTemplate(source, tokenizer)
        chat = [m.model_copy(update={"weight": 0}) if i == 2 else m for i, m in enumerate(CHAT)]
        runs = taught(template.examples(chat, TOOLS))
        assert [before for before, _ in runs] == [template.prompt(CHAT[:i], TOOLS) for i in REPLIES[1:]]


def test_every_reply_is_trained_where_a_template_rewrites_earlier_ones(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(THINKING, tokenizer)
    chat = [CHAT[1], CHAT[7], CHAT[1], CHAT[7]]
    runs = taught(template.examples(chat))
    assert [before for before, _ in runs] == [template.prompt(chat[:1]), template.prompt(chat[:3])]
    assert all(tokenizer.decode(reply).startswith("<think>") for _, reply in runs)


def test_calls_that_a_template_cannot_write_are_refused(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(BARE, tokenizer)
    asked = CHAT[:2]
    one = CHAT[5]
    (example,) = template.examples([*asked, one], TOOLS)
    assert '{"name": "now", "parameters": {}}' in tokenizer.decode(example[0])
    with pytest.raises(InvalidRequest, match="one call only"):
        template.examples([*asked, CHAT[2]], TOOLS)
    with pytest.raises(InvalidRequest, match=r"messages\[2\].*could be read off"):
        template.examples([*asked, one.model_copy(update={"content": "Let me see."})], TOOLS)
    silent = ChatTemplate(
        TAGGED.replace("{{ m.content }}", "{{ '' if m.tool_calls else m.content }}"), tokenizer
    )
    with pytest.raises(InvalidRequest, match="no text before it"):
        silent.examples([*asked, CHAT[2]], TOOLS)


def test_ids_of_any_length_suit_templates_that_insist_on_one(tokenizer: Tokenizer) -> None:
    told = ChatTemplate(LISTED, tokenizer).render(CHAT[:3], ask=False, tools=TOOLS)
    assert "call_abcdefgh" not in told
    assert tools.short_id("call_abcdefgh") in told
    assert tools.short_id("123456789") == "123456789"
    assert len({tools.short_id(f"call_{i}") for i in range(1000)}) == 1000
