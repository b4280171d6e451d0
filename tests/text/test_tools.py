"""Tool calls in the forms that checkpoints write them."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import jsonschema
import pytest

from inhouse.errors import InvalidRequest
from inhouse.schema import CallDelta, Message, Tool, ToolCall, ToolUse
from inhouse.text import tools
from inhouse.text.grammar import Grammars, Matcher
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.text.tools import PLAIN, CallForm, CallReader
from tests import tiny

from .schemas import closed
from .test_grammar import END, VOCABULARY, wander

WEATHER = Tool(
    name="weather", description="The weather of a city.", parameters=closed(city={"enum": ["Rome", 'a"}]\\']})
)
NOW = Tool(name="now")
USE = ToolUse(tools=(WEATHER, NOW))

_TURN = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}CALLS<|end|>\n{% endfor %}ASK"
_ASK = "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
_TOLD = "{% if tools %}<|start|>system\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|end|>\n{% endif %}"


def template_that_writes(calls: str) -> str:
    return _TOLD + _TURN.replace("CALLS", calls).replace("ASK", _ASK)


TAGGED = template_that_writes(
    "{% for c in m.tool_calls or [] %}{% if m.content or not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
)
BARE = template_that_writes(
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one call only') }}{% endif %}"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": '
    "{{ m.tool_calls[0].function.arguments | tojson }}}{% endif %}"
)
LISTED = template_that_writes(
    "{% if m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{% if c.id | length != 9 %}"
    "{{ raise_exception('ids have nine characters') }}{% endif %}"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, "id": "{{ c.id }}"}'
    "{% if not loop.last %}, {% endif %}{% endfor %}]{% endif %}"
)
MARKED = template_that_writes(
    "{% for c in m.tool_calls or [] %}[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}"
    "{% endfor %}"
)
UNKNOWN = template_that_writes("{% for c in m.tool_calls or [] %}<f={{ c.function.name }}></f>{% endfor %}")

FORMS = {
    "tagged": CallForm(
        '<tool_call>\n{"name": "',
        '", "arguments": ',
        "}\n</tool_call>",
        '}\n</tool_call>\n<tool_call>\n{"name": "',
    ),
    "bare": CallForm('{"name": "', '", "parameters": ', "}"),
    "listed": CallForm('[TOOL_CALLS] [{"name": "', '", "arguments": ', "}]", '}, {"name": "'),
    "marked": CallForm("[TOOL_CALLS]", "[ARGS]", "", "[TOOL_CALLS]"),
}
THINKING = TAGGED.replace(
    "{{ m.content }}", "{{ m.content }}{% if m.tool_calls %}<think>\n\n</think>\n\n{% endif %}"
)
TEMPLATES = {"tagged": TAGGED, "bare": BARE, "listed": LISTED, "marked": MARKED}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(folder)
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, VOCABULARY, [END])


@pytest.mark.parametrize("name", FORMS)
def test_a_template_shows_the_form_of_its_calls(tokenizer: Tokenizer, name: str) -> None:
    assert ChatTemplate(TEMPLATES[name], tokenizer).calls == FORMS[name]


def test_a_place_for_thoughts_is_no_part_of_a_call(tokenizer: Tokenizer) -> None:
    assert ChatTemplate(THINKING, tokenizer).calls == FORMS["tagged"]


@pytest.mark.parametrize("source", [tiny.TEMPLATE, UNKNOWN, TAGGED.removeprefix(_TOLD)])
def test_a_template_without_tools_or_of_another_form_gets_the_plain_one(
    tokenizer: Tokenizer, source: str
) -> None:
    template = ChatTemplate(source, tokenizer)
    assert template.calls == PLAIN
    asked = [Message(role="system", content="Be brief."), Message(role="user", content="Hi")]
    told = tokenizer.decode(template.prompt(asked, USE.tools))
    assert told.startswith("system\nBe brief.\n\nYou may call these tools:\n")
    assert json.dumps(WEATHER.parameters) in told and PLAIN.before in told


def test_a_template_that_knows_tools_is_given_them_and_the_calls(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(TAGGED, tokenizer)
    call = ToolCall(id="123456789", name="weather", arguments='{"city": "Rome"}')
    told = tokenizer.decode(
        template.prompt(
            [
                Message(role="user", content="Hi"),
                Message(role="assistant", content="Let me see.", tool_calls=(call,)),
                Message(role="tool", content="Sunny.", tool_call_id=call.id),
            ],
            [WEATHER],
        )
    )
    assert "The weather of a city." in told
    assert (
        'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>' in told
    )
    assert "tool\nSunny." in told


def test_a_template_that_knows_no_tools_reads_calls_and_results_as_text(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(tiny.TEMPLATE, tokenizer)
    call = ToolCall(id="x", name="weather", arguments='{"city":"Rome"}')
    told = tokenizer.decode(
        template.prompt(
            [
                Message(role="user", content="Hi"),
                Message(role="assistant", tool_calls=(call, call)),
                Message(role="tool", content="Sunny.", tool_call_id="x"),
            ]
        )
    )
    written = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    assert f"assistant\n{written}\n{written}\n" in told
    assert "user\n<tool_response>\nSunny.\n</tool_response>\n" in told


def test_a_special_token_in_arguments_or_descriptions_is_only_text(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(TAGGED, tokenizer)
    plain = [Message(role="user", content="Hi")]
    nasty = Tool(name="f", description="<|end|>", parameters=closed(**{"<|end|>": {"const": "<|end|>"}}))
    call = ToolCall(id="123456789", name="f", arguments='{"<|end|>": ["<|end|>"]}')
    ends = template.prompt([*plain, Message(role="assistant", content="x")], [NOW]).count(END)
    said = template.prompt([*plain, Message(role="assistant", content="x", tool_calls=(call,))], [nasty])
    assert said.count(END) == ends


def read(reader: CallReader, pieces: list[str]) -> tuple[str, list[CallDelta]]:
    said, news = "", list[CallDelta]()
    for piece in pieces:
        more, calls = reader.push(piece)
        said += more
        news += calls
    return said + reader.finish(), news


def called(news: list[CallDelta]) -> list[tuple[str, str]]:
    """Name and arguments of each call; that the news come in order is part of it."""
    calls: list[list[str]] = []
    for piece in news:
        if piece.id is not None:
            assert piece.index == len(calls) and piece.name and not piece.arguments and len(piece.id) == 9
            calls.append([piece.name, ""])
        else:
            assert piece.index == len(calls) - 1
            calls[-1][1] += piece.arguments
    return [(name, arguments) for name, arguments in calls]


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("content", [None, '%json {"type": "integer"}'])
@pytest.mark.parametrize("name", FORMS)
def test_calls_under_the_grammar_are_read_whole_and_keep_to_their_parameters(
    grammars: Grammars, tokenizer: Tokenizer, name: str, choice: str, content: str | None
) -> None:
    form, dice = FORMS[name], random.Random(name)
    use = USE.model_copy(update={"choice": choice})
    if content and choice == "auto" and not form.opens_anywhere:
        with pytest.raises(InvalidRequest, match="plain JSON"):
            tools.grammar_of(use, form, content)
        return
    start = grammars.matcher(tools.grammar_of(use, form, content), param="tools")
    if choice == "auto":  # chance would not write the marker; from here on, the grammar leads
        for token in tokenizer.encode(form.before, special=False):
            start.consume(token)
    count = 0
    for _ in range(40):
        reply = wander(start, tokenizer, dice)
        if reply is None:
            continue
        reply = reply if choice == "required" else form.before + reply
        said, news = read(CallReader(form, anywhere=content is None), [reply])
        calls = called(news)
        assert said == "" and calls
        count += len(calls)
        for tool, arguments in calls:
            given = {"weather": WEATHER, "now": NOW}[tool]
            jsonschema.validate(json.loads(arguments), given.parameters or tools.EMPTY_PARAMETERS)
    assert count >= 20


@pytest.mark.parametrize("name", ["tagged", "listed", "marked"])
def test_a_call_once_begun_is_held_to_its_schema_and_text_is_free(grammars: Grammars, name: str) -> None:
    form = FORMS[name]
    start = grammars.matcher(tools.grammar_of(USE, form, None), param="tools")
    good = f'{form.before}weather{form.between}{{"city":"Rome"}}{form.after}'
    assert start.accepts("Any text, a < and a [ too.\n") and start.accepts("")
    assert start.accepts(good) and start.accepts(f"Let me see. {good}")
    assert not start.accepts(good.replace("Rome", "Oslo")), "not of the schema"
    assert not start.accepts(good.replace("weather", "forecast")), "no such tool"
    assert not start.accepts(good[: len(good) - 8]), "cut off"
    assert not start.accepts(f"{form.marker} is what calls begin with"), "text cannot look like a call"
    once = grammars.matcher(
        tools.grammar_of(USE.model_copy(update={"parallel": False}), form, None), param="tools"
    )
    twice = f"{form.before}now{form.between}{{}}{form.again}now{form.between}{{}}{form.after}"
    assert start.accepts(twice) and not once.accepts(twice)
    only = grammars.matcher(
        tools.grammar_of(USE.model_copy(update={"only": ("now",)}), form, None), param="tools"
    )
    assert not only.accepts(good)


def test_plain_json_is_a_call_only_at_a_reply_s_beginning(grammars: Grammars) -> None:
    start = grammars.matcher(tools.grammar_of(USE, FORMS["bare"], None), param="tools")
    assert start.accepts('{"name": "weather", "parameters": {"city":"Rome"}}')
    assert start.accepts('So: {"name": "weather", "parameters": {"city":"Oslo"}}')
    assert not start.accepts('{"name": "weather", "parameters": {"city":"Oslo"}}')
    assert start.accepts('{"other": 1}')
    reader = CallReader(FORMS["bare"], anywhere=True)
    assert read(reader, ["So: ", '{"name": "weather"']) == ('So: {"name": "weather"', [])


@pytest.mark.parametrize("name", FORMS)
def test_calls_are_read_alike_however_the_text_is_cut(name: str) -> None:
    form, dice = FORMS[name], random.Random(5)
    arguments = '{"a": "}]\\"{", "b": [{"c": {}}]}'
    calls = [("first", arguments)] + [("second_2-x", "{}")] * (form.again is not None)
    texts = [f"{tool}{form.between}{given}" for tool, given in calls]
    reply = form.before + (form.again or "").join(texts) + form.after
    lead = "Well <tool [TOOL " if form.opens_anywhere else ""
    for _ in range(50):
        at = sorted({0, len(lead + reply), *(dice.randrange(len(lead + reply)) for _ in range(6))})
        whole = lead + reply
        said, news = read(CallReader(form, anywhere=True), [whole[a:b] for a, b in itertools.pairwise(at)])
        assert (said, called(news)) == (lead, calls)


def test_what_only_began_like_a_call_is_said_at_the_end() -> None:
    assert read(CallReader(PLAIN, anywhere=True), ["a <tool", "_ca"]) == ("a <tool_ca", [])
    assert read(CallReader(FORMS["bare"], anywhere=True), ['{"na']) == ('{"na', [])
    assert read(CallReader(PLAIN, anywhere=True), ["<tool_call>\n{"]) == ("", [])


def test_a_marker_that_is_a_special_token_counts_as_its_text(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    own = json.loads((tmp_path / "tokenizer.json").read_text())
    own["added_tokens"].append(own["added_tokens"][0] | {"id": 259, "content": "[TOOL_CALLS]"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(own))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.token_bytes(259) == b""
    form = ChatTemplate(LISTED, tokenizer).calls
    assert form == FORMS["listed"]
    grammars = Grammars(tokenizer, VOCABULARY, [END], shown=form.written)
    assert grammars.token_bytes(259) == b"[TOOL_CALLS]" and grammars.token_bytes(END) == b""
    start = grammars.matcher(tools.grammar_of(USE, form, None), param="tools")
    start.consume(259)
    (space,) = tokenizer.encode(" ", special=False)
    mask = start.mask()
    assert [i for i in range(VOCABULARY) if mask[i // 8] >> i % 8 & 1] == [space]


def test_parameters_that_are_no_object_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="f's parameters are no object"):
        tools.parameters(Tool(name="f", parameters={"type": "array"}))


def test_calls_in_one_reply_are_at_most_so_many(tokenizer: Tokenizer) -> None:
    """Whatever the model: without a bound a small one calls until the length limit cuts a call in two."""
    form = FORMS["listed"]
    grammar = tools.grammar_of(ToolUse(tools=(Tool(name="now"),), choice="required"), form, None)
    start = Grammars(tokenizer, VOCABULARY, [END]).matcher(grammar, param="tools")
    assert form.again is not None
    one, another = f"{form.before}now{form.between}{{}}", f"{form.again}now{form.between}{{}}"
    for more, is_let_through in ((tools.MOST_CALLS - 1, True), (tools.MOST_CALLS, False)):
        at = start.clone()
        ids = tokenizer.encode(one + more * another + form.after, special=False)
        assert all(_takes(at, token) for token in ids) is is_let_through


def _takes(at: Matcher, token: int) -> bool:
    if not at.mask()[token // 8] >> token % 8 & 1:
        return False
    at.consume(token)
    return True
