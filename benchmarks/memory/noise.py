"""Questions as hasty people type them: slips of the keyboard, lost case, lost marks, filler.

How it is made, and why that is another way than one would train with: a slip follows the geometry of a keyboard
(QWERTY or QWERTZ, by row and column), not a uniform alphabet; swaps and doublings happen between neighbours in time;
the place is any letter of any word of four letters or more; fillers are whole hand-written phrases; a fifth of the
questions carry two faults at once. Digits are never touched and words of three letters never misspelt, because
another digit is another machine. Whatever a fault does, the name stays nearer to itself than to any other taught
name: a draw that comes within one slip of another is thrown away.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from benchmarks.memory.names import Index

ROWS = (("qwertyuiop", "asdfghjkl", "zxcvbnm"), ("qwertzuiop", "asdfghjkl", "yxcvbnm"))
BEFORE = (
    "hi, quick one: ",
    "Sorry to bother you again, but ",
    "ok so my boss is asking, ",
    "hello!! ",
    "Good morning, I'm on a call right now and ... ",
    "maybe a silly question - ",
    "hey there :) ",
    "for the meeting at 3: ",
    "Right. Next question. ",
    "(sent from my phone) ",
    "as discussed yesterday, ",
    "One more thing, if I may: ",
)
AFTER = (
    " thx",
    " Thanks a lot in advance!",
    " - it's urgent",
    " pls hurry, the client is waiting",
    " I've been looking everywhere for it.",
    " ...if you know",
    " Cheers, K.",
    " (asking for a colleague)",
    " ty!!",
    " Sorry, I keep forgetting.",
    " No rush.",
    " , that would help me a lot",
)

Fault = Callable[[str, str, random.Random], "tuple[str, str] | None"]
"""(the text around the name with {s} for it, the name) → both changed, or None where it cannot be done."""


def noisy(
    frame: str, name: str, taken: Index, rng: random.Random, fault: str | None = None
) -> tuple[str, str]:
    """(the question with faults, their names joined by +). `frame` has {s} where the name stands.

    `taken` are all names that are taught. A given `fault` comes alone; it must be possible for this question.
    """
    for _ in range(200):
        chosen = [fault] if fault else rng.sample(list(FAULTS), 2 if rng.random() < 0.2 else 1)
        changed: tuple[str, str] | None = (frame, name)
        for each in chosen:
            changed = FAULTS[each](*changed, rng) if changed is not None else None
        if changed is None or taken.is_near(changed[1], apart_from=name):
            continue
        text = changed[0].replace("{s}", changed[1])
        if text != frame.replace("{s}", name):
            return text, "+".join(chosen)
    raise ValueError(f"no fault {fault or ''} was possible for {name!r} in {frame!r}; choose another")


def is_possible(frame: str, name: str, fault: str) -> bool:
    """Whether this one fault can be made at all."""
    changed = FAULTS[fault](frame, name, random.Random(0))
    return changed is not None and changed != (frame, name)


def _in_name(slip: Callable[[str, random.Random], str | None]) -> Fault:
    def fault(frame: str, name: str, rng: random.Random) -> tuple[str, str] | None:
        changed = _slip(name, slip, rng)
        return None if changed is None else (frame, changed)

    return fault


def _elsewhere(slip: Callable[[str, random.Random], str | None]) -> Fault:
    def fault(frame: str, name: str, rng: random.Random) -> tuple[str, str] | None:
        changed = _slip(frame, slip, rng)
        return None if changed is None else (changed, name)

    return fault


def _slip(text: str, slip: Callable[[str, random.Random], str | None], rng: random.Random) -> str | None:
    """One slip in one word of four letters or more."""
    words = list(re.finditer(r"[^\W\d_]{4,}", text))
    if not words:
        return None
    word = rng.choice(words)
    changed = slip(word[0], rng)
    return None if changed is None else text[: word.start()] + changed + text[word.end() :]


def _neighbour(word: str, rng: random.Random) -> str | None:
    at = rng.randrange(len(word))
    near = _keys_around(word[at].lower(), rng.choice(ROWS))
    if not near:
        return None
    key = rng.choice(near)
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


def _swap(word: str, rng: random.Random) -> str | None:
    at = rng.randrange(len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return None if swapped == word else swapped


def _omission(word: str, rng: random.Random) -> str | None:
    at = rng.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _doubling(word: str, rng: random.Random) -> str | None:
    at = rng.randrange(len(word))
    return word[: at + 1] + word[at].lower() + word[at + 1 :]


def _keys_around(key: str, rows: tuple[str, ...]) -> list[str]:
    for y, row in enumerate(rows):
        if key in row:
            x = row.index(key)
            spots = [(y, x - 1), (y, x + 1), (y - 1, x), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x)]
            return [rows[b][a] for b, a in spots if 0 <= b < len(rows) and 0 <= a < len(rows[b])]
    return []


def _lower(frame: str, name: str, rng: random.Random) -> tuple[str, str]:
    return frame.lower(), name.lower()


def _upper(frame: str, name: str, rng: random.Random) -> tuple[str, str]:
    return frame.upper().replace("{S}", "{s}"), name.upper()


def _no_mark(frame: str, name: str, rng: random.Random) -> tuple[str, str]:
    return re.sub(r"[?.!]+$", "", frame), name


def _before(frame: str, name: str, rng: random.Random) -> tuple[str, str]:
    return rng.choice(BEFORE) + frame, name


def _after(frame: str, name: str, rng: random.Random) -> tuple[str, str]:
    return frame + rng.choice(AFTER), name


def _joined(frame: str, name: str, rng: random.Random) -> tuple[str, str] | None:
    """One space is lost: in the name, beside it, or between two other words."""
    whole = frame.replace("{s}", "\0")
    spaces = [i for i, c in enumerate(whole) if c == " "]
    in_name = [i for i, c in enumerate(name) if c == " "]
    if in_name and (not spaces or rng.random() < 0.4):
        at = rng.choice(in_name)
        return frame, name[:at] + name[at + 1 :]
    if not spaces:
        return None
    at = rng.choice(spaces)
    return (whole[:at] + whole[at + 1 :]).replace("\0", "{s}"), name


def _marks(frame: str, name: str, rng: random.Random) -> tuple[str, str]:
    bare = re.sub(r"[?.!]+$", "", frame)
    way = rng.randrange(4)
    if way == 0:
        return bare + rng.choice(("???", "?!", "...?", " ?", "!!")), name
    if way == 1:
        return bare.replace("{s}", rng.choice(('"{s}"', "'{s}'", "({s})", "*{s}*", "„{s}“"))) + "?", name
    if way == 2:
        return bare.replace(" ", ", ", 1) + "?", name
    return rng.choice(("... ", "- ", "Q: ", "> ", "1) ")) + frame, name


FAULTS: dict[str, Fault] = {
    "neighbour in name": _in_name(_neighbour),
    "swap in name": _in_name(_swap),
    "omission in name": _in_name(_omission),
    "doubling in name": _in_name(_doubling),
    "neighbour elsewhere": _elsewhere(_neighbour),
    "swap elsewhere": _elsewhere(_swap),
    "omission elsewhere": _elsewhere(_omission),
    "doubling elsewhere": _elsewhere(_doubling),
    "lower case": _lower,
    "upper case": _upper,
    "no mark": _no_mark,
    "filler before": _before,
    "filler after": _after,
    "lost space": _joined,
    "extra marks": _marks,
}
