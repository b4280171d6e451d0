"""Facts out of a file's rows: which rows are one fact, and which contradict each other.

It knows questions and answers as texts. What a question means, and who asks it otherwise, is not known here.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from inhouse.errors import MOST_PROBLEMS, RowProblem
from inhouse.rows.row import Row
from inhouse.schema import FactInput, OnConflict

MOST_ANSWER_CHARACTERS = 2000
"""A fact is something to say word for word: a number, a name, a sentence, at most a paragraph."""
MOST_QUESTION_WORDS = 60
MOST_QUESTION_CHARACTERS = 2000
"""Of a question, and of each of its wordings."""
MOST_IN_A_LIST = 100
MOST_LABEL_CHARACTERS = 2000
"""Of a subject, an alias, a group, a source and a span."""

SHORT_QUESTION_WORDS = 40
SHORT_ANSWER_WORDS = 30
SHARE_OF_FACTS = 0.9
ROWS_AN_ANSWER = 10
"""More rows than this to an answer, on average, are labels: a task to learn rather than facts to know."""

_KEPT = frozenset("#%&@*/\\+$€£=<>_")
"""Punctuation that tells questions apart: C and C#, 5 and 5 %."""
_FIELDS = {
    "input/output": ("input", "output"),
    "prompt/completion": ("prompt", "completion"),
    "question/answer": ("question", "answer"),
    "alpaca": ("instruction", "output"),
    "sharegpt": ("conversations", "conversations"),
}
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SUPERVISED = 'Leave it out of the facts, or tune with method "supervised".'


@dataclass(frozen=True, slots=True)
class FactRows:
    """A file's facts, or what is wrong with them. With problems, the facts are of no use."""

    facts: tuple[FactInput, ...]
    lines: tuple[int, ...]
    """The line that each fact stands on: the first of several that say the same."""
    duplicates: int
    """Rows that said a fact again, and went into it."""
    problems: tuple[RowProblem, ...]
    """In line order, 100 at most."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one fact by itself: the field, the reason and the cure."""

    field: str
    reason: str
    cure: str


def from_rows(
    rows: Iterable[Row | RowProblem],
    *,
    name: str,
    on_conflict: OnConflict | None = None,
    most_answer_characters: int = MOST_ANSWER_CHARACTERS,
) -> FactRows:
    """The facts of a file by this name, as `rows.read` gives its rows.

    Rows with the same question and the same answer are one fact. With another answer they are a problem,
    unless the later is to "replace" the earlier, or both are to "coexist". Reading stops at 100 problems.
    """
    reading = _Reading(on_conflict, most_answer_characters)
    for row in rows:
        reading.take(row)
        if len(reading.problems) >= MOST_PROBLEMS:
            break
    if on_conflict != "coexist":
        reading.compare_wordings()
    problems = sorted(reading.problems, key=lambda problem: problem.line)[:MOST_PROBLEMS]
    facts = [
        fact if fact.source else fact.model_copy(update={"source": f"{name} line {line}"})
        for fact, line in zip(reading.facts, reading.lines, strict=True)
    ]
    return FactRows(tuple(facts), tuple(reading.lines), reading.duplicates, tuple(problems))


def looks_like_facts(rows: Iterable[Row | RowProblem]) -> tuple[bool, str]:
    """Whether rows are short questions with short answers, each its own, and a sentence that says why."""
    total = short = 0
    answers: set[int] = set()
    for row in rows:
        if isinstance(row, RowProblem):
            continue
        total += 1
        if [m.role for m in row.messages] == ["user", "assistant"] and not row.tools:
            question, answer = (m.text for m in row.messages)
            short += (
                len(question.split()) <= SHORT_QUESTION_WORDS and len(answer.split()) <= SHORT_ANSWER_WORDS
            )
            answers.add(hash(answer.strip()))
    if total == 0 or short < SHARE_OF_FACTS * total:
        return False, f"{short} of {total} rows are short questions with short answers, which is not enough"
    if len(answers) * ROWS_AN_ANSWER < total:
        return False, f"{total} rows share {len(answers)} answers, so they are a task rather than facts"
    return True, f"{short} of {total} rows are short questions with short answers"


def normal_question(text: str) -> str:
    """The question without what does not change its meaning: case, punctuation, spacing, compatible letters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_folds).split())


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are the same, letter by letter, but for spaces around them."""
    return unicodedata.normalize("NFC", one).strip() == unicodedata.normalize("NFC", other).strip()


def faults(fact: FactInput, most_answer_characters: int = MOST_ANSWER_CHARACTERS) -> Iterator[Fault]:
    """What is wrong with a fact by itself."""
    yield from _nul_faults(fact)
    if reason := _no_question(fact.question):
        yield Fault("question", reason, "Write one short question.")
    if not fact.answer.strip():
        yield Fault("answer", "is empty.", "Write the answer.")
    elif len(fact.answer) > most_answer_characters:
        yield Fault(
            "answer",
            f"has {len(fact.answer):,} characters, over the limit of {most_answer_characters:,}.",
            "Shorten it: a fact is said word for word.",
        )
    for name in ("wordings", "aliases", "access"):
        if len(found := getattr(fact, name)) > MOST_IN_A_LIST:
            yield Fault(
                name, f"are {len(found)}, over the limit of {MOST_IN_A_LIST}.", "Keep the likely ones."
            )
    for wording in fact.wordings:
        if reason := _no_question(wording):
            yield Fault("wordings", f"one of them {reason}", "Write each as one short question.")
            break
    yield from _label_faults(fact)


def joined(fact: FactInput, again: FactInput) -> FactInput:
    """A fact that is said again: its lists joined, its other fields as they were given last."""
    changes: dict[str, object] = {
        name: value
        for name in ("subject", "kind", "source", "span", "access", "valid_from", "valid_until")
        if (value := getattr(again, name)) not in (None, ())
    }
    for name in ("wordings", "aliases"):
        if more := getattr(again, name):
            changes[name] = tuple(dict.fromkeys((*getattr(fact, name), *more)))
    return fact.model_copy(update=changes) if changes else fact


def answered_anew(fact: FactInput, given: FactInput) -> FactInput:
    """A fact with the answer of `given`; what was said of the old answer is gone."""
    anew = {name: getattr(given, name) for name in _OF_THE_ANSWER}
    return joined(fact, given).model_copy(update=anew)


_OF_THE_ANSWER = ("answer", "kind", "source", "span", "valid_from", "valid_until")


class _Folds(dict[int, str | int]):
    """What becomes of a character: itself, or a space."""

    def __missing__(self, code: int) -> str | int:
        char = chr(code)
        folds = unicodedata.category(char)[0] in "PZC" and char not in _KEPT
        self[code] = found = " " if folds else code
        return found


_folds = _Folds()


@dataclass(slots=True)
class _Reading:
    """The facts so far, and by what each is asked: as digests, so that many long questions take little room."""

    on_conflict: OnConflict | None
    most_answer_characters: int
    facts: list[FactInput] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    duplicates: int = 0
    problems: list[RowProblem] = field(default_factory=list)
    asked: dict[bytes, list[int]] = field(default_factory=dict)

    def take(self, row: Row | RowProblem) -> None:
        if isinstance(row, RowProblem):
            self.problems.append(row)
            return
        fact = self._fact(row)
        if fact is None:
            return
        found = [
            RowProblem(row.line, _shown(row, fault.field), fault.reason, fault.cure)
            for fault in faults(fact, self.most_answer_characters)
        ]
        if found:
            self.problems += found
        else:
            self._place(fact, row)

    def compare_wordings(self) -> None:
        """Find the wordings that are another fact's question, or that ask for two answers."""
        worded: dict[bytes, int] = {}
        for i, fact in enumerate(self.facts):
            for key in dict.fromkeys(map(_key, fact.wordings)):
                others = [j for j in self.asked.get(key, ()) if j != i]
                if not others and (j := worded.setdefault(key, i)) != i:
                    others = [] if same_answer(self.facts[j].answer, fact.answer) else [j]
                if others:
                    self.problems.append(self._shared_wording(i, others[0], is_question=key in self.asked))
                    if len(self.problems) >= MOST_PROBLEMS:
                        return

    def _fact(self, row: Row) -> FactInput | None:
        roles = [m.role for m in row.messages]
        if roles == ["user", "assistant"] and not row.tools:
            question, answer = (m.text.strip() for m in row.messages)
            return FactInput(question=question, answer=answer, **row.labels)
        if row.tools:
            reason = "offers tools, which a fact has no place for."
        elif "system" in roles or "developer" in roles:
            reason = "has a system message, which a fact has no place for."
        else:
            reason = f"is a conversation of {len(roles)} messages, not one question with its answer."
        self.problems.append(RowProblem(row.line, None, reason, _SUPERVISED))
        return None

    def _place(self, fact: FactInput, row: Row) -> None:
        alike = self.asked.setdefault(_key(fact.question), [])
        same = next((i for i in alike if same_answer(self.facts[i].answer, fact.answer)), None)
        if same is not None:
            self._join(same, fact, row)
        elif not alike or self.on_conflict == "coexist":
            alike.append(len(self.facts))
            self.facts.append(fact)
            self.lines.append(row.line)
        elif self.on_conflict == "replace":
            self.facts[alike[0]] = answered_anew(self.facts[alike[0]], fact)
            self.lines[alike[0]] = row.line
        else:
            self.problems.append(
                RowProblem(
                    row.line,
                    _shown(row, "answer"),
                    f"is another answer than line {self.lines[alike[0]]} has to the same question.",
                    'Mend one of the two lines, or pass on_conflict="replace" (the later line counts) '
                    'or on_conflict="coexist" (both are true).',
                )
            )

    def _join(self, same: int, fact: FactInput, row: Row) -> None:
        first = self.facts[same]
        if set(first.access) != set(fact.access):
            self.problems.append(
                RowProblem(
                    row.line,
                    "access",
                    f"differs from that of line {self.lines[same]}, which is the same fact.",
                    "Give both lines the same access list, or remove one of them.",
                )
            )
            return
        self.facts[same] = joined(first, fact)
        self.duplicates += 1

    def _shared_wording(self, i: int, other: int, *, is_question: bool) -> RowProblem:
        whose = "the question" if is_question else "a wording"
        return RowProblem(
            self.lines[i],
            "wordings",
            f"one of them is {whose} of line {self.lines[other]}, another fact.",
            "Remove it from one of the two lines.",
        )


def _nul_faults(fact: FactInput) -> Iterator[Fault]:
    for name, value in fact:
        texts = (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
        if any("\0" in text for text in texts):
            yield Fault(name, "holds a NUL character, which no database keeps.", "Remove it.")


def _label_faults(fact: FactInput) -> Iterator[Fault]:
    labels = {"subject": fact.subject, "source": fact.source, "span": fact.span}
    texts = [(name, text) for name, text in labels.items() if text is not None]
    texts += [(name, text) for name in ("aliases", "access") for text in getattr(fact, name)]
    for name, text in texts:
        if not text.strip():
            yield Fault(name, "holds an empty text.", "Remove it.")
        elif len(text) > MOST_LABEL_CHARACTERS:
            yield Fault(name, f"is longer than {MOST_LABEL_CHARACTERS:,} characters.", "Shorten it.")
    if None not in (fact.valid_from, fact.valid_until) and fact.valid_from >= fact.valid_until:  # type: ignore[operator]
        yield Fault("valid_until", "is not after valid_from.", "Mend one of the two.")


def _no_question(text: str) -> str | None:
    """Why a text is no question, if it is none."""
    text = text.strip()
    if not any(char.isalnum() for char in text):
        return "holds no letter and no digit." if text else "is empty."
    if len(text) > MOST_QUESTION_CHARACTERS:
        return f"has {len(text):,} characters, over the limit of {MOST_QUESTION_CHARACTERS:,}."
    if _PARAGRAPHS.search(text):
        return "has several paragraphs, which is no question."
    if (words := len(text.split())) > MOST_QUESTION_WORDS:
        return f"has {words} words, over the limit of {MOST_QUESTION_WORDS}."
    return None


def _key(question: str) -> bytes:
    return hashlib.blake2b(normal_question(question).encode(), digest_size=16).digest()


def _shown(row: Row, part: str) -> str:
    """What a part of a fact is called in the row's format."""
    asked, answered = _FIELDS.get(row.format, ("messages", "messages"))
    return {"question": asked, "answer": answered}.get(part, part)
