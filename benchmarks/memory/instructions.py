"""Many ways to give the tasks of `uses`, for a task adapter: one that has seen three instructions learns those three.

Put together from pieces. None shares three words in a row with an instruction of the exam, which
`assert_apart` checks for what was made; letters, JSON objects and conditions are wanted in the same form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmarks.memory import uses
from benchmarks.memory.names import listed
from benchmarks.memory.uses import Use

RUN = 3
"""So many words in a row may not stand in an instruction of the exam."""

WHAT = ("the {noun} of {s}", "the {noun} of {s}", "{s}'s {noun}", "the {noun} for {s}", "the {noun} at {s}")
WRITE = listed("Write|Draft|Prepare|Create|Produce|Type|Please write|Could you write|Formulate|Make", "|")
LETTER = listed("a letter|a short letter|a polite letter|a message|a few lines|a mail|an e-mail|a reply", "|")
LETTERS = (
    "{write} {letter} to {to} with {what}.",
    "{write} {letter} for {to} that gives {what}.",
    "{write} {letter} to {to}: {what}.",
    "{write} {letter} in which {to} learns {what}.",
    "{to} wants to know {what}. {write} {letter}.",
    "{to} needs {what}. {write} {letter} about it.",
    "{to} called because of {s}: what about the {noun}? {write} {letter}.",
    "Letter to {to}. Contents: {what}.",
    "Inform {to} of {what} in writing.",
    "By post to {to}: {what}. {write} it.",
    "{write} what I can send {to} on {s}, namely the {noun}.",
    "For {to}, {letter} on {s}. Important is the {noun}.",
)
KEYS = (
    'the keys "name" and "{key}"',
    'keys "name", "{key}"',
    'the members "name" and "{key}"',
    '"name" plus "{key}"',
    'the attributes "name" and "{key}"',
    'two entries, "name" and "{key}"',
)
OBJECTS = (
    "{write} JSON for {s} with {keys}.",
    "{write} a JSON object about {s}: {keys}.",
    "{s} as JSON with {keys}.",
    "JSON of {s}, {keys}.",
    "Turn {s} into JSON. Use {keys}.",
    "Show {s} in JSON format with {keys}.",
    "Export {s} to JSON, {keys}, nothing more.",
    "An object with {keys} is wanted for {s}. Reply in JSON.",
    "The service expects JSON with {keys}. The subject is {s}.",
    "{keys}: put {s} into such a JSON object.",
)
ONLY = listed(
    "Answer with the name only.|Just the name.|Only say which.|Reply with the name.|Name only.", "|"
)
MORE = {
    "number": ("higher", "bigger", "higher of the two", "greatest", "highest"),
    "date": ("earlier", "sooner", "older", "earlier of the two", "earliest"),
}
COMPARISONS = (
    "Which has the {more} {noun}, {a} or {b}? {only}",
    "{a} or {b}: which one has the {more} {noun}? {only}",
    "Compare {a} and {b}: which {noun} is {more}? {only}",
    "Of {a} and {b}, who has the {more} {noun}? {only}",
    "Look at the {noun} of {a} and of {b}. Whose is {more}? {only}",
    "We have {a} and {b}. Where is the {noun} {more}? {only}",
    "Pick the one with the {more} {noun}: {a}, {b}. {only}",
    "Take {a} and {b}. The {more} {noun} has which? {only}",
    "Decide by {noun}: {a} or {b}, the {more} wins. {only}",
)
CONDITIONS = (
    "Write an SQL condition on the column {key} for {what}.",
    "SQL: compare the column {key} with {what}.",
    "Give the WHERE condition in which {key} equals {what}.",
    "{write} the condition for {key}, with {what}.",
    "{write} SQL that tests {key} against {what}.",
    "{write} a filter on {key} for {what}, in SQL.",
    "SQL predicate: {key} is {what}.",
    "I want all rows whose {key} is {what}. What is the condition?",
    "WHERE on {key}, value {what}.",
    "Put {what} into a WHERE condition on {key}.",
    "Column {key}, value {what}: the SQL comparison, please.",
    "How do I select by {key} being {what}? Only the condition.",
    "DELETE needs a condition: {key} is {what}. {write} it.",
)


def reworded(tasks: Sequence[Use], seed: int) -> list[Use]:
    """The same tasks in instructions made here; facts and replies stay as they are."""
    rng = random.Random(f"instructions {seed}")
    made = [replace(task, prompt=_prompt(task, rng)) for task in tasks]
    assert_apart(form for forms in (LETTERS, OBJECTS, COMPARISONS, CONDITIONS) for form in forms)
    return made


def assert_apart(forms: Iterable[str]) -> None:
    """No form shares `RUN` words in a row with the exam's; what is filled in does not count."""
    theirs = [
        *uses.LETTERS[1],
        *uses.OBJECTS[1],
        *(form for forms in uses.COMPARISONS[1].values() for form in forms),
        *uses.CONDITIONS[1],
    ]
    taken = {run for form in theirs for run in _runs(form)}
    for form in forms:
        shared = taken & _runs(form)
        assert not shared, f"{form!r} is too near the exam: {sorted(shared)}"


def _runs(form: str) -> set[tuple[str, ...]]:
    """Runs of words between what is filled in."""
    found: set[tuple[str, ...]] = set()
    for piece in re.split(r"\{+\w*\}+", form):
        words = re.findall(r"\w+", piece.lower())
        found |= {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}
    return found


def _prompt(task: Use, rng: random.Random) -> str:
    fact = task.facts[0]
    names = {"noun": fact.relation.noun, "s": fact.subject.text, "key": fact.relation.name}
    pieces = {
        "write": rng.choice(WRITE),
        "letter": rng.choice(LETTER),
        "only": rng.choice(ONLY),
        "what": rng.choice(WHAT).format(**names),
        "keys": rng.choice(KEYS).format(**names),
    }
    if task.sort == "letter":
        to = re.match(r"Dear (.+?),", task.reply)
        assert to is not None, "a letter's reply opens with its recipient"
        return _capital(rng.choice(LETTERS).format(to=to[1], **names, **pieces))
    if task.sort == "json":
        return _capital(rng.choice(OBJECTS).format(**names, **pieces))
    if task.sort == "sql":
        return _capital(rng.choice(CONDITIONS).format(**names, **pieces))
    a, b = rng.sample([fact.subject.text for fact in task.facts], 2)
    more = rng.choice(MORE[fact.relation.answer_kind])
    return rng.choice(COMPARISONS).format(a=a, b=b, more=more, **names, **pieces)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:2] in ("a ", "an", "th") else text
