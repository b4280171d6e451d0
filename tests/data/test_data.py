"""Rows become streams without padding, in an order that only (seed, step) decide."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse import rows
from inhouse.data.examples import Example, from_rows
from inhouse.data.loader import Epochs
from inhouse.data.pack import pack, split
from inhouse.errors import BadRows
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from tests.tiny import TEMPLATE, base_folder

EXAMPLES = st.lists(
    st.integers(1, 20).flatmap(
        lambda n: st.builds(
            Example,
            st.lists(st.integers(0, 99), min_size=n, max_size=n).map(tuple),
            st.lists(st.booleans(), min_size=n, max_size=n).map(tuple),
        )
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    folder = base_folder(tmp_path_factory.mktemp("base"))
    return ChatTemplate.load(folder, Tokenizer.load(folder))


@given(EXAMPLES)
def test_a_stream_holds_every_token_and_every_target_once(examples: list[Example]) -> None:
    batch = pack(examples)
    assert batch.tokens.tolist() == [t for e in examples for t in e.ids]
    assert batch.positions.tolist() == [i for e in examples for i in range(len(e.ids))]
    assert len(batch.rows) == sum(e.loss_tokens for e in examples)
    assert [batch.tokens[r + 1] for r in batch.rows.tolist()] == batch.targets.tolist()
    assert all(batch.positions[r + 1] > 0 for r in batch.rows.tolist()), "a target of another example"


@given(EXAMPLES, st.integers(1, 40))
def test_splitting_keeps_every_example_in_order_and_within_the_budget(
    examples: list[Example], budget: int
) -> None:
    runs = list(split(examples, budget))
    assert [e for run in runs for e in run] == examples
    assert all(len(run) == 1 or sum(len(e.ids) for e in run) <= budget for run in runs)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 3))
def test_steps_cover_each_epoch_exactly(count: int, batch_size: int, seed: int) -> None:
    examples = [Example((i,), (False,)) for i in range(count)]
    source = Epochs(examples, batch_size=batch_size, epochs=2, seed=seed)
    seen = [e for step in range(source.steps) for e in source.at(step)]
    assert sorted(e.ids for e in seen) == sorted(e.ids for e in examples * 2)
    assert source.at(source.steps - 1) == seen[-len(source.at(source.steps - 1)) :]


def test_rows_that_do_not_fit_the_context_are_all_named(template: ChatTemplate) -> None:
    loaded = rows.load([("short", "yes"), ("x" * 500, "no"), ("also short", "y" * 500)], name="facts.jsonl")
    with pytest.raises(BadRows) as caught:
        from_rows(loaded, template, context=128, name="facts.jsonl")
    assert [p.line for p in caught.value.problems] == [2, 3]
    assert "context holds 128" in str(caught.value)


def test_rows_become_examples_of_the_same_tokens_as_the_template(
    template: ChatTemplate, tmp_path: Path
) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text('{"prompt": "Who?", "completion": "Ines"}\n')
    (example,) = from_rows(rows.load(file), template, context=128, name="facts.jsonl")
    ids, trained = template.example(rows.load(file)[0].messages)
    assert (list(example.ids), list(example.trained)) == (ids, trained)


def test_a_row_that_the_template_cannot_write_is_named_by_its_line(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    refuse = "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
    template = ChatTemplate(refuse + TEMPLATE, Tokenizer.load(folder))
    turns = [{"role": role, "content": "a"} for role in ("user", "assistant") * 2]
    loaded = rows.load([("short", "yes"), {"messages": turns}], name="rows.jsonl")
    with pytest.raises(BadRows, match="one turn only") as caught:
        from_rows(loaded, template, context=128, name="rows.jsonl")
    assert [p.line for p in caught.value.problems] == [2]


def test_a_row_with_tools_is_trained_with_them(template: ChatTemplate) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    row = {
        "messages": [{"role": "user", "content": "Now?"}, {"role": "assistant", "tool_calls": [call]}],
        "tools": [{"type": "function", "function": {"name": "now"}}],
    }
    loaded = rows.load([row])
    (example,) = from_rows(loaded, template, context=1000, name="rows")
    start = example.trained.index(True)
    assert list(example.ids[:start]) == template.prompt(loaded[0].messages[:1], loaded[0].tools)
