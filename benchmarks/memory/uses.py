"""Tasks in which a fact has to be *used*: a letter, a JSON object, a comparison of two subjects, an SQL condition.

Each comes with a checker that sees whether the stored value stands rightly in what was written, and with a reply
that would be right. There are two halves. The training half is for a task adapter: other subjects (a world of its
own) and other instructions. The exam half is over the bank's facts.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from benchmarks.memory import world
from benchmarks.memory.names import listed
from benchmarks.memory.world import MONTHS, Fact

SORTS = ("letter", "json", "comparison", "sql")
OTHER_WORLD = 900_000
"""Seeds of training worlds begin here; no exam uses them."""


@dataclass(frozen=True, slots=True)
class Use:
    """A task, the facts it needs, and a right reply."""

    sort: str
    prompt: str
    facts: tuple[Fact, ...]
    reply: str

    def is_right(self, output: str) -> bool:
        """Whether the stored value stands rightly in `output`."""
        return CHECKS[self.sort](self, output.strip())


def training(count: int, seed: int, *, apart_from: Sequence[Fact] = ()) -> list[Use]:
    """Tasks for a task adapter, all sorts in turn, over another world's subjects. Give the exam's facts as
    `apart_from`: names of common words alone ("Product Design 3") may come up in both worlds, and are left out."""
    known = {fact.subject.text for fact in apart_from}
    facts = [
        fact
        for fact in world.make_facts(max(400, count), OTHER_WORLD + seed)
        if fact.subject.text not in known
    ]
    return _tasks(facts, count, random.Random(f"training {seed}"), half=0)


def exam(facts: Sequence[Fact], count: int, seed: int, *, taught_instructions: bool = False) -> list[Use]:
    """Tasks over taught facts, all sorts in turn, in instructions that the training half has not."""
    return _tasks(facts, count, random.Random(f"uses {seed}"), half=0 if taught_instructions else 1)


def _tasks(facts: Sequence[Fact], count: int, rng: random.Random, half: int) -> list[Use]:
    pairs = _pairs(facts)
    makers: dict[str, Callable[[], Use]] = {
        "letter": lambda: _letter(rng.choice(facts), rng, half),
        "json": lambda: _json(rng.choice(facts), rng, half),
        "comparison": lambda: _comparison(rng.choice(pairs), rng, half),
        "sql": lambda: _sql(rng.choice(facts), rng, half),
    }
    sorts = [sort for sort in SORTS if sort != "comparison" or pairs]
    found: dict[str, Use] = {}
    for turn in range(count * 20):
        if len(found) == count:
            break
        use = makers[sorts[turn % len(sorts)]]()
        found.setdefault(use.prompt, use)
    return list(found.values())


# ── letter ────────────────────────────────────────────────────────────────────────────────────────────────

LETTERS = (
    (
        "Write a short letter to {to} that states the {noun} of {s}.",
        "Write to {to} and tell them what the {noun} of {s} is.",
        "Draft a letter for {to} with the {noun} of {s} in it.",
    ),
    (
        "Please put together a note addressed to {to}; it should mention {s} and its {noun}.",
        "{to} asked us about {s}. Answer by letter and give the {noun}.",
        "Compose a brief letter: recipient {to}, subject the {noun} of {s}.",
    ),
)
RECIPIENTS = listed("Ms Adler|Mr Bergmann|Ms Costa|Mr Dupont|Ms Eriksen|Mr Farkas|Ms Gruber|Mr Haas", "|")


def _letter(fact: Fact, rng: random.Random, half: int) -> Use:
    to, s, noun = rng.choice(RECIPIENTS), fact.subject.text, fact.relation.noun
    prompt = rng.choice(LETTERS[half]).format(to=to, s=s, noun=noun)
    reply = f"Dear {to},\n\nthe {noun} of {s} is {fact.answer}.\n\nKind regards"
    return Use("letter", prompt, (fact,), reply)


def _is_right_letter(use: Use, output: str) -> bool:
    """A salutation, the subject's name, and the stored answer, whole and unchanged."""
    fact = use.facts[0]
    return (
        re.match(r"(dear|hello|hi|to)\b", output, re.IGNORECASE) is not None
        and _stands(fact.subject.text, output)
        and _stands(fact.answer, output)
    )


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────

OBJECTS = (
    (
        'Return a JSON object with the keys "name" and "{key}" for {s}.',
        'Give {s} as JSON with the keys "name" and "{key}".',
        'Answer in JSON, keys "name" and "{key}": {s}.',
    ),
    (
        'I need {s} as a machine-readable record. Fields: "name", "{key}". JSON only.',
        'Fill in {{"name": ..., "{key}": ...}} for {s}.',
        'Our importer wants a JSON document holding "name" and "{key}". Make one for {s}.',
    ),
)


def _json(fact: Fact, rng: random.Random, half: int) -> Use:
    prompt = rng.choice(OBJECTS[half]).format(key=fact.relation.name, s=fact.subject.text)
    reply = json.dumps({"name": fact.subject.text, fact.relation.name: fact.answer}, ensure_ascii=False)
    return Use("json", prompt, (fact,), reply)


def _is_right_json(use: Use, output: str) -> bool:
    """The whole output parses, has exactly the two keys, the name and the stored answer (a number may be one)."""
    fact = use.facts[0]
    try:
        found = json.loads(output)
    except ValueError:
        return False
    if not isinstance(found, dict) or set(found) != {"name", fact.relation.name}:
        return False
    value = found[fact.relation.name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_same = (
        value == number(fact) if is_number and fact.relation.answer_kind == "number" else value == fact.answer
    )
    return bool(found["name"] == fact.subject.text and is_same)


# ── comparison ────────────────────────────────────────────────────────────────────────────────────────────

COMPARISONS = (
    {
        "number": (
            "Which has the higher {noun}, {a} or {b}? Answer with the name only.",
            "Compare {a} and {b}: which {noun} is higher? Give only the name.",
        ),
        "date": (
            "Which has the earlier {noun}, {a} or {b}? Answer with the name only.",
            "Compare {a} and {b}: which {noun} is earlier? Give only the name.",
        ),
    },
    {
        "number": (
            "Between {a} and {b}, name the one whose {noun} is the larger, nothing else.",
            "{a} versus {b}: the greater {noun} belongs to whom? One name, please.",
        ),
        "date": (
            "Between {a} and {b}, name the one whose {noun} comes first, nothing else.",
            "{a} versus {b}: whose {noun} lies further back in time? One name, please.",
        ),
    },
)


def _pairs(facts: Sequence[Fact]) -> list[tuple[Fact, Fact]]:
    """Facts of the same relation that can be put in order, each with the next two of its kind."""
    groups: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        if fact.relation.answer_kind in ("number", "date"):
            groups.setdefault((fact.kind, fact.relation.name), []).append(fact)
    return [
        (group[i], other)
        for group in groups.values()
        for i in range(len(group))
        for other in group[i + 1 : i + 3]
        if order(group[i]) != order(other)
    ]


def _comparison(pair: tuple[Fact, Fact], rng: random.Random, half: int) -> Use:
    a, b = pair if rng.random() < 0.5 else (pair[1], pair[0])
    kind = a.relation.answer_kind
    prompt = rng.choice(COMPARISONS[half][kind]).format(
        noun=a.relation.noun, a=a.subject.text, b=b.subject.text
    )
    right = min(a, b, key=order) if kind == "date" else max(a, b, key=order)
    return Use("comparison", prompt, (a, b), right.subject.text)


def _is_right_comparison(use: Use, output: str) -> bool:
    """The right one is named, the other is not."""
    right = use.reply
    wrong = next(f.subject.text for f in use.facts if f.subject.text != right)
    rest = output.replace(right, "") if right in output else ""
    return _stands(right, output) and not _stands(wrong, rest)


# ── SQL ───────────────────────────────────────────────────────────────────────────────────────────────────

CONDITIONS = (
    (
        "Write an SQL condition on the column {key} for the {noun} of {s}.",
        "SQL: compare the column {key} with the {noun} of {s}.",
        "Give the WHERE condition in which {key} equals the {noun} of {s}.",
    ),
    (
        "I filter a table by {key}. What comes behind WHERE so that only rows with {s}'s {noun} are left?",
        "Complete the query: SELECT * FROM t WHERE {key} = (the {noun} of {s}). Print the condition only.",
        "Which SQL expression is true where {key} is the {noun} that {s} has?",
    ),
)


def _sql(fact: Fact, rng: random.Random, half: int) -> Use:
    prompt = rng.choice(CONDITIONS[half]).format(
        key=fact.relation.name, noun=fact.relation.noun, s=fact.subject.text
    )
    return Use("sql", prompt, (fact,), f"{fact.relation.name} = {_literal(fact.answer)}")


def _is_right_sql(use: Use, output: str) -> bool:
    """`column = literal` and nothing else, WHERE and a semicolon apart; a number may stand without its unit."""
    fact = use.facts[0]
    found = re.fullmatch(
        rf"(?:where\s+)?{fact.relation.name}\s*=\s*('(?:[^']|'')*'|-?\d+(?:\.\d+)?)\s*;?",
        output,
        re.IGNORECASE,
    )
    if found is None:
        return False
    if found[1].startswith("'"):
        return found[1] == _literal(fact.answer)
    return fact.relation.answer_kind == "number" and float(found[1]) == number(fact)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


CHECKS: dict[str, Callable[[Use, str], bool]] = {
    "letter": _is_right_letter,
    "json": _is_right_json,
    "comparison": _is_right_comparison,
    "sql": _is_right_sql,
}


def number(fact: Fact) -> float:
    """The number in an answer that holds one."""
    return float(re.sub(r"[^\d.]", "", fact.answer.split()[0]))


def order(fact: Fact) -> float:
    """What two answers of a relation are compared by: a number, or a date's day count."""
    if fact.relation.answer_kind == "date":
        day, month, year = fact.answer.split()
        return date(int(year), MONTHS.index(month) + 1, int(day)).toordinal()
    return number(fact)


def _stands(text: str, output: str) -> bool:
    """`text` stands in `output` as it is, not as part of a longer word or number."""
    return re.search(rf"(?<![\w.,-]){re.escape(text)}(?!\w|[.,-]\w)", output) is not None
