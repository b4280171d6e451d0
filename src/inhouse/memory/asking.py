"""What kind of thing a message is: a direct question, a task that uses facts, or one that brings its own text.

Rules on words, the same for every base: a stored answer may be given as it is only to a direct question. It knows
English and no facts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from inhouse.memory.words import listed, words_of

LONGEST_QUESTION = 32
"""Words of a direct question; a longer message is a task or a text."""
LEAST_CONTEXT = 8
"""Words of statements that make a message bring its own text."""
LEAST_TEXT = 4
"""Words beyond which "translate", "correct" and their like bring their own text."""
MOST_CLAUSES = 12

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+|\n+")
_CLAUSE = re.compile(
    r"[,;:.?!\n()\"“”{}\[\]]+|\b(?:and|that|which|whose|with|so|then|including|mentioning|stating)\b"
)
_MARKER = re.compile(
    r"\b(?:passage|context|text|document|article|paragraph|excerpt|email|note|transcript|report|source)s?\s*:"
    r"|\b(?:following|given|below|above) (?:text|passage|document|article|paragraph|excerpt|information|context|email)"
    r"|\b(?:according to|based on|from|in|use|using) (?:this|the) (?:text|passage|document|article|paragraph|excerpt)",
    re.IGNORECASE,
)
_ABBREVIATION = re.compile(r"\b([A-Z]|Mr|Mrs|Ms|Dr|No|St)\.")
_SQL = re.compile(r"\b(?:WHERE|SELECT|HAVING)\b|\b(?:column|rows|tuples?)\b")
"""In capitals, as where and select are words of questions too."""
_TASKS = frozenset(
    listed(
        """
    write draft compose prepare generate create produce make return output respond fill complete compare
    translate summarise summarize rewrite rephrase build formulate explain describe classify extract
    calculate compute add multiply convert sort rank list count sing imagine invent plan design code
    implement continue finish correct spell answer reply format put insert include use say repeat
    """
    )
)
_TASK_WORDS = frozenset(["json", "sql", "xml", "yaml", "csv", "poem", "essay", "haiku"])
_ON_TEXT = frozenset(
    listed(
        """
    translate summarise summarize rewrite rephrase correct spell extract classify continue finish format
    repeat shorten improve proofread
    """
    )
)
"""Tasks on a text that comes with them."""
_COMPARES = frozenset(
    listed(
        """
    cheaper pricier dearer costlier older younger earlier later longer shorter bigger larger smaller higher
    lower heavier lighter faster slower newer more less fewer sooner taller first both same difference
    between compare versus vs than greater
    """
    )
)
_ASKS = frozenset(
    listed(
        """
    tell give show name find look let remind check get say list state confirm provide send
    """
    )
)
_POLITE = frozenset(
    listed(
        """
    please hi hello hey ok okay so well sorry excuse me quick quickly question thanks thank you can could
    would will kindly just now and then also one more thing for the report good morning day
    """
    )
)
_PERSONAL = frozenset(
    listed(
        """
    i we my our im ive id were were weve us me you your can could would
    """
    )
)
_OPENERS = frozenset(
    listed(
        """
    what who whom whose which when where why how is are was were do does did has have in on at for from to
    by until since under with may might should must
    """
    )
)


@dataclass(frozen=True, slots=True)
class Asking:
    """A message, seen as what it wants."""

    is_direct: bool
    """A question, or a request to tell something, and nothing else."""
    brings_text: bool
    """It holds the text that it is about: the answer is to come from there."""
    compares: bool
    """Words that set two things against each other."""
    clauses: tuple[str, ...]
    """Its pieces, the whole first: what a task needs to know may stand in any of them."""


def asking(text: str, plain: str | None = None) -> Asking:
    """Looks at a user's message; `plain` is the same with simple words for its names."""
    plain = _ABBREVIATION.sub(r"\1", (text if plain is None else plain).replace("...", " "))
    sentences = [s for s in map(str.strip, _SENTENCE_END.split(plain)) if words_of(s)]
    words = [word.text for word in words_of(plain)]
    said = [s for s in sentences if _is_statement(s)]
    told = sum(len(words_of(s)) for s in said)
    figures = any(word.has_digit for s in said for word in words_of(s))
    brings_text = len(sentences) > 1 and (told >= LEAST_CONTEXT or (figures and told >= 4))
    brings_text |= bool(_MARKER.search(plain)) and len(words) > LEAST_CONTEXT
    brings_text |= len(words) > 60 and told > len(words) // 2
    verbs = [_first(s) for s in sentences]
    brings_text |= any(v in _ON_TEXT for v in verbs) and len(words) > LEAST_TEXT
    is_task = any(v in _TASKS for v in verbs) or any(word in _TASK_WORDS for word in words)
    is_task |= bool(_SQL.search(plain))
    compares = any(word in _COMPARES for word in words)
    return Asking(
        is_direct=not is_task and not brings_text and 0 < len(words) <= LONGEST_QUESTION,
        brings_text=brings_text,
        compares=compares,
        clauses=_clauses(text),
    )


def _is_statement(sentence: str) -> bool:
    """Whether a sentence tells something, rather than asks or orders."""
    if sentence.endswith("?"):
        return False
    first = _first(sentence)
    return first not in _TASKS | _ASKS | _PERSONAL | _OPENERS and len(words_of(sentence)) >= 4


def _first(sentence: str) -> str:
    """The first word that is not politeness."""
    words = [word.text for word in words_of(sentence)]
    return next((word for word in words if word not in _POLITE), words[0] if words else "")


def _clauses(text: str) -> tuple[str, ...]:
    pieces = (piece.strip() for piece in _CLAUSE.split(text))
    return (text, *dict.fromkeys(p for p in pieces if len(words_of(p)) > 1 and p != text.strip()))[
        :MOST_CLAUSES
    ]
