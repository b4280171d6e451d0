from __future__ import annotations

import json
import math
import random
from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from inhouse.errors import InternalError, InvalidRequest
from inhouse.schema import Structure
from inhouse.text.grammar import Grammars, Matcher, grammar_of
from inhouse.text.tokenizer import Tokenizer

from .conftest import END, VOCABULARY
from .random_schemas import random_schema
from .schemas import KEPT, NULL, REFUSED, closed


def matcher(grammars: Grammars, **kind: Any) -> Matcher:
    structure = Structure(param="response_format", **kind)
    return grammars.matcher(grammar_of(structure), param=structure.param)


def allowed(at: Matcher) -> list[int]:
    mask = at.mask()
    return [i for i in range(VOCABULARY) if mask[i // 8] >> i % 8 & 1]


def wander(at: Matcher, tokenizer: Tokenizer, dice: random.Random, most: int = 600) -> str | None:
    """A reply that chance writes, leaning towards ends; None where it finds none in time."""
    at, text = at.clone(), b""
    closers = {tokenizer.encode(c, special=False)[0] for c in '"}],'} | {END}
    for _ in range(most):
        if at.is_complete:
            return text.decode()
        choices = allowed(at)
        ends = [token for token in choices if token in closers]
        token = dice.choice(ends if ends and dice.random() < 0.4 else choices)
        at.consume(token)
        if token == END:
            return text.decode()
        text += tokenizer.token_bytes(token)
    return None


@pytest.mark.parametrize("name", KEPT)
def test_whatever_a_schema_lets_through_parses_and_validates(
    grammars: Grammars, tokenizer: Tokenizer, name: str
) -> None:
    schema, dice = KEPT[name], random.Random(name)
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema)
    start = matcher(grammars, json_schema=schema)
    replies = [reply for _ in range(25) if (reply := wander(start, tokenizer, dice)) is not None]
    assert len(replies) >= 10
    for reply in replies:
        validator.validate(json.loads(reply))


def test_schemas_that_chance_writes_are_kept_or_refused(grammars: Grammars, tokenizer: Tokenizer) -> None:
    dice, kept, replies = random.Random(2026), 0, 0
    for _ in range(400):
        schema = {
            **random_schema(dice, 3),
            "$defs": {"p": random_schema(dice, 1), "q": random_schema(dice, 2)},
        }
        try:
            start = matcher(grammars, json_schema=schema)
        except InvalidRequest:
            continue
        kept += 1
        for _ in range(4):
            if (reply := wander(start, tokenizer, dice, most=200)) is not None:
                jsonschema.Draft202012Validator(schema).validate(json.loads(reply))
                replies += 1
    assert kept >= 150 and replies >= 500


def range_ends(dice: random.Random) -> dict[str, float]:
    """Up to four ends near one another, whole and not, small and as large as the library counts."""
    centre = dice.choice([0, 0, 2, -7, 1000, 10**6, 10**7, -(10**7), 2**53, 10**18, -(10**18)])
    steps: list[float] = [0, 1, 1, 2, 5, -1, -3]
    if abs(centre) < 2**50:
        steps += [0.5, -0.25, 0.001, 1.5, 1e-9]
    some = dice.sample(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], dice.randint(1, 3))
    return {word: centre + dice.choice(steps) for word in some}


def near(ends: Collection[float]) -> set[str]:
    """Numbers at these ends and beside them, as they may be written."""
    doubles = {
        x
        for end in map(float, ends)
        for x in (end, math.nextafter(end, -1e30), math.nextafter(end, 1e30), end + 0.25, end - 0.001)
    }
    whole = {str(math.floor(end) + step) for end in ends for step in range(-2, 7)}
    fractions = {format(Decimal(repr(x)), "f") for x in doubles}
    return (
        whole | {f"{text}.0" for text in whole} | fractions | {f"{text}0000000000001" for text in fractions}
    )


def test_ranges_are_kept_to_the_letter_and_stay_as_wide_as_they_are(grammars: Grammars) -> None:
    """What gets through validates, and the whole numbers that validate get through."""
    dice, kept, empty, taken = random.Random(7), 0, 0, 0
    for _ in range(400):
        ends = range_ends(dice)
        kind = dice.choice(
            ["integer", "number", ["integer", "null"], ["number", "null"], ["integer", "number"]]
        )
        schema: dict[str, Any] = {"type": kind, **ends}
        if dice.random() < 0.2 and len(ends) > 1:  # the ends in two parts
            word = dice.choice(list(ends))
            schema = {"allOf": [{"type": kind, word: ends.pop(word)}, {"type": kind, **ends}]}
        validator = jsonschema.Draft202012Validator(schema)
        texts = near(
            [end for part in schema.get("allOf", [schema]) for w, end in part.items() if w != "type"]
        )
        valid = {text for text in texts if "." not in text and validator.is_valid(json.loads(text))}
        try:
            at = matcher(grammars, json_schema=schema)
        except InvalidRequest:
            small = {text for text in valid if abs(int(text)) < 2**53}
            assert len(small) <= 1, "the library takes no range of one number"
            empty += 1
            continue
        kept += 1
        for text in texts:
            if at.accepts(text):
                assert validator.is_valid(json.loads(text)), (schema, text)
                taken += 1
            else:
                assert text not in valid or abs(int(text)) >= 2**53, (schema, text)
    assert kept >= 200 and empty >= 20 and taken >= 1000


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        (
            {"type": ["integer", "null"], "exclusiveMinimum": 10_000_000, "maximum": 10_000_005},
            ["10000001", "10000005", "null"],
            ["10000000", "10000006"],
        ),
        (
            {"type": "number", "exclusiveMinimum": 1_000_000, "exclusiveMaximum": 1_000_001},
            ["1000000.5", "1000000.000001", "1000000.999999"],
            ["1000000", "1000000.0", "1000001", "1000001.0"],
        ),
        (
            {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            ["0", "0.9", "0.99", "0.999999999"],
            ["1", "1.0", "1.1"],
        ),
        ({"type": "number", "exclusiveMinimum": 0}, ["0.000000000000000001", "1"], ["0", "0.0", "-1"]),
        ({"type": "number", "exclusiveMinimum": 2, "maximum": 2.5}, ["2.1", "2.5"], ["2", "2.0", "2.6"]),
        (
            {"type": "number", "exclusiveMinimum": 2, "maximum": 5},
            ["2.1"],
            ["2.00000000000000000001"],  # validators read it as 2
        ),
        (
            {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
            ["9007199254740993", "0", "9223372036854770000"],
            ["9223372036854775808", "-1"],
        ),
        (
            {"type": "integer", "minimum": 10**18 + 1, "maximum": 2 * 10**18},
            ["1000000000000000128"],
            ["1000000000000000000"],
        ),
    ],
)
def test_a_range_lets_through_what_is_in_it(
    grammars: Grammars, schema: dict[str, Any], yes: list[str], no: list[str]
) -> None:
    at = matcher(grammars, json_schema=schema)
    assert [text for text in yes if not at.accepts(text)] == []
    assert [text for text in no if at.accepts(text)] == []


def test_dates_and_times_are_such_that_programs_can_read(grammars: Grammars, tokenizer: Tokenizer) -> None:
    dice = random.Random(1)
    days = matcher(grammars, json_schema=KEPT["date"])
    moments = matcher(grammars, json_schema=KEPT["date-time"])
    for _ in range(40):
        date.fromisoformat(json.loads(wander(days, tokenizer, dice) or "null"))
        datetime.fromisoformat(json.loads(wander(moments, tokenizer, dice) or "null"))
    for day, is_real in (
        ("2023-02-29", False),
        ("1900-02-29", False),
        ("2024-02-29", True),
        ("2000-02-29", True),
    ):
        assert days.accepts(f'"{day}"') is is_real
    assert not days.accepts('"0000-01-01"')
    assert moments.accepts('"2024-02-29T10:00:59Z"')
    assert not moments.accepts('"2024-02-29T10:00:60Z"')


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_promised_is_refused_with_its_place_and_a_cure(grammars: Grammars, name: str) -> None:
    schema, said = REFUSED[name]
    with pytest.raises(InvalidRequest) as refused:
        matcher(grammars, json_schema=schema)
    assert refused.value.param == "response_format"
    assert said in refused.value.message
    assert refused.value.message.count(". ") >= 1, "a message says what, and what to do"


def test_a_name_has_one_spelling_so_that_no_value_is_written_over(grammars: Grammars) -> None:
    at = matcher(grammars, json_schema={"type": "object", "properties": {"a": {"type": "integer"}}})
    assert at.accepts('{"a":1,"b":"x"}')
    assert not at.accepts('{"a":"x"}')
    assert not at.accepts('{"a":1,"a":"x"}')
    assert not at.accepts('{"a":1,"\\u0061":"x"}')


def test_a_dot_is_what_it_is_everywhere(grammars: Grammars) -> None:
    at = matcher(grammars, json_schema={"type": "string", "pattern": "^a.[.]\\.$"})
    assert at.accepts('"ab.."') and at.accepts('"aé.."')
    assert not any(at.accepts(f'"a{other}.."') for other in ("\\r", "\\n", "\u2028", "\u2029"))
    assert not at.accepts('"abb."') and not at.accepts('"ab.b"')


def test_white_space_cannot_go_on_for_ever(grammars: Grammars) -> None:
    at = matcher(grammars, json_schema={"type": "object"})
    assert at.accepts('{\n  "a": [\n    1,\n    2\n  ]\n}')
    assert not at.accepts('{\n\n\n"a": 1}')
    assert not at.accepts('{"a": ' + " " * 40 + "1}")


@pytest.mark.parametrize(
    ("kind", "yes", "no"),
    [
        ({"regex": r"[a-c]{2}/\d+"}, ["ab/12"], ["ab/", "xab/12", "ab/12 ", "ab/١"]),
        ({"regex": "(yes|no)!?"}, ["yes", "no!"], ["", "maybe"]),
        ({"choice": ("yes", 'a"\\b', "ünï\n")}, ["yes", 'a"\\b', "ünï\n"], ["ye", "yesyes", ""]),
        ({"grammar": 'start: NAME "=" /[0-9]+/\nNAME: /[a-z]+/'}, ["x=1"], ["x=", "=1"]),
        ({"grammar": '{"grammars": [{"json_schema": {"type": "null"}}]}'}, [], []),
    ],
)
def test_other_formats_take_what_they_say(
    grammars: Grammars, kind: dict[str, Any], yes: list[str], no: list[str]
) -> None:
    if not yes:
        with pytest.raises(InvalidRequest):
            matcher(grammars, **kind)
        return
    start = matcher(grammars, **kind)
    assert all(start.accepts(text) for text in yes)
    assert not any(start.accepts(text) for text in no)


def test_a_mask_allows_just_what_can_be_taken(grammars: Grammars, tokenizer: Tokenizer) -> None:
    at = matcher(grammars, json_schema=closed(a={"type": "string", "maxLength": 2}, b=NULL))
    for token in tokenizer.encode('{"a":"', special=False):
        at.consume(token)
    free = set(allowed(at))
    for token in range(VOCABULARY):
        probe = at.clone()
        if token in free:
            probe.consume(token)
        else:
            with pytest.raises((InternalError, InvalidRequest)):
                probe.consume(token)
    assert not free & {0, 1, END, *range(259, VOCABULARY)}, "special tokens, the end, and what is no token"


@pytest.mark.parametrize("name", KEPT)
def test_what_is_forced_is_what_every_reply_says_there(
    grammars: Grammars, tokenizer: Tokenizer, name: str
) -> None:
    """Chance writes replies; wherever something is forced, the reply goes on with that text."""
    start = matcher(grammars, json_schema=KEPT[name])
    for seed in range(4):
        text = wander(start, tokenizer, random.Random(seed))
        if text is None:
            continue
        at, rest = start.clone(), text.encode()
        while rest:
            forced = b"".join(map(grammars.token_bytes, at.forced()))
            assert rest.startswith(forced), (text, forced)
            token = next(i for i in allowed(at) if i != END and rest.startswith(grammars.token_bytes(i)))
            at.consume(token)
            rest = rest.removeprefix(grammars.token_bytes(token))


def test_something_is_forced_and_the_mask_lets_it_through(grammars: Grammars, tokenizer: Tokenizer) -> None:
    at = matcher(grammars, json_schema=closed(name={"type": "string"}))
    forced = at.forced()
    assert tokenizer.decode(forced) == "{"
    at = matcher(grammars, choice=["yes, indeed", "yes, please"])
    forced = at.forced()
    assert b"".join(map(grammars.token_bytes, forced)) == b"yes, "
    for token in forced:
        assert token in allowed(at)
        at.consume(token)
    assert at.forced() == ()


def test_a_clone_goes_its_own_way(grammars: Grammars, tokenizer: Tokenizer) -> None:
    at = matcher(grammars, regex="ab|cd")
    a, b, c = (tokenizer.encode(letter, special=False)[0] for letter in "abc")
    other = at.clone()
    at.consume(a)
    assert (allowed(at), allowed(other)) == ([b], sorted([a, c]))


def test_a_grammar_cannot_end_a_reply_in_its_middle(grammars: Grammars, tokenizer: Tokenizer) -> None:
    at = matcher(grammars, grammar=f'start: "a" <[{END}]> "b"')
    at.consume(tokenizer.encode("a", special=False)[0])
    assert END in allowed(at)
    with pytest.raises(InvalidRequest, match="ends replies"):
        at.consume(END)


def test_a_base_without_an_end_token_ends_where_the_grammar_does(tokenizer: Tokenizer) -> None:
    at = Grammars(tokenizer, VOCABULARY, []).matcher("start: /ab?/", param="x")
    for letter in "ab":
        at.consume(tokenizer.encode(letter, special=False)[0])
    assert at.is_complete and not allowed(at)


def test_the_embedded_base_s_vocabulary_is_read_whole(tmp_path: Path) -> None:
    """Tokens of many bytes: the same promise, in a vocabulary that people use."""
    folder = Path(__file__).parents[2] / "src/inhouse/bases/seedling"
    tokenizer = Tokenizer.load(folder)
    grammars = Grammars(tokenizer, tokenizer.vocab_size, tokenizer.eos_ids)
    start = grammars.matcher(
        grammar_of(Structure(param="response_format", json_schema=KEPT["flat"])), param="response_format"
    )
    dice = random.Random(3)
    for _ in range(20):
        at, text = start.clone(), b""
        while not at.is_complete:
            mask = at.mask()
            token = dice.choice([i for i in range(tokenizer.vocab_size) if mask[i // 8] >> i % 8 & 1])
            at.consume(token)
            text += tokenizer.token_bytes(token)
        jsonschema.validate(json.loads(text), KEPT["flat"])
