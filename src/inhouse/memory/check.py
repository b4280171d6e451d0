"""The answer check: whether a text says a stored answer.

It compares text by four kinds of answer. It knows nothing of banks, questions or models, and it does not read:
"it is not Berlin" says Berlin, though it does not only say it (`only_says`). What holds for all kinds:
compatibility forms, case, spaces, and the looks of quotes and dashes do not count, and a stored answer never
matches inside a longer word, name, number or code.

text    the same words, whole. "Anna" is not in "Annas", "Anna-Lena" or "anna@x.org"; it is in "Anna's".
number  the same value in any way of writing: 1,250.00 is 1250, 1.250,00 and 1.25 thousand. A unit, a currency and
        a percent sign are part of the answer and must stand there in one of their spellings: "$1,250" is said by
        "1250 dollars", neither by "1250" nor by "1250 euros". A stored number without any is said with whatever
        unit follows (the question may hold it), but not as a percentage. 1,250 is a thousand and more; 1,25 is
        one and a quarter. Numbers written as words are not understood.
date    the same day, from 2021-03-04, March 4, 2021, 4 March 2021 and the like; 04/03/2021 only where it can mean
        one day, as 25/03/2021 does. An answer that could mean two is compared as a code.
code    the same characters in any case; a space or dash may come or go where the code has one, between its letters
        and digits, and anywhere in a code of eight or more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from inhouse.memory.words import remembered
from inhouse.schema import FactKind

LONG_CODE = 8
"""Characters from which on a code may be written in groups of any length."""
MOST_DIGITS = 15
"""A longer run of digits is no amount but a code."""

MOST_WORDS_BESIDE = 25
"""Words besides the answer in a text that says only it."""

_ALIKE = str.maketrans(
    dict.fromkeys("‐‑‒–−﹘﹣", "-")
    | dict.fromkeys("—―", " - ")
    | dict.fromkeys("‘’‚‛`´", "'")
    | dict.fromkeys("“”„‟«»", '"')
    | {"⁄": "/"}
)
_ENDS = " .,;:!?…\"'()[]{}"
_BEFORE = r"(?<!\w)(?<!\w[-.@'])(?<!\d,)(?<!@)"
_AFTER = r"(?!\w|[-.@]\w|,\d|[+#]|'(?!s\b)\w)"

_ADMITS = re.compile(
    r"(sorry,? (but )?)?(i|we) (do not|don't|cannot|can't) (know|say|tell)( (that|this|the answer))?"
    r"( from (the|this) (text|passage|context|notes))?"
    r"|unknown|i have no (idea|information)( about (it|that|this))?"
)

_ANSWER = "\0"
"""Stands for each character of the answer while the rest is looked at."""
_DENIES = re.compile(r"\b(?:not|no|never|neither|nor|cannot|instead|rather)\b|n't\b")
_SENTENCE_END = re.compile(r"(?:(?<=\w{4})|(?<=\0))\.(?= )|[!?](?= )")
"""A point after a short word may be an abbreviation's: "not Dr. Smith" is one sentence."""


def kind_of(answer: str) -> FactKind:
    """How an answer is compared, seen from the answer itself."""
    text = _trimmed(answer)
    if _whole_date(text) is not None:
        return "date"
    if _whole_number(text) is not None:
        return "number"
    return "code" if _is_code(text, answer) else "text"


def says(text: str, answer: str, kind: FactKind | None = None) -> bool:
    """Whether the text states the stored answer; `kind` is seen from the answer where it is not given.

    An answer that is none of its kind, such as the number "a dozen", is compared as text.
    """
    return next(_places(_plain(text), answer, kind), None) is not None


def only_says(text: str, answer: str, kind: FactKind | None = None) -> bool:
    """Whether the text says the answer, in no sentence with a negation of its own, and beside little else.

    It is a guard, no reader: of "not only Berlin" it says no.
    """
    plain = _plain(text)
    places = list(_places(plain, answer, kind))
    if not places or len(plain.split()) - len(_trimmed(answer).split()) > MOST_WORDS_BESIDE:
        return False
    for start, end in places:
        plain = plain[:start] + _ANSWER * (end - start) + plain[end:]
    return not any(_ANSWER in part and _DENIES.search(part) for part in _SENTENCE_END.split(plain))


def _places(plain: str, answer: str, kind: FactKind | None) -> Iterator[tuple[int, int]]:
    """(start, end) wherever the answer stands."""
    wanted = _trimmed(answer)
    if not wanted:
        return
    kind = kind or kind_of(answer)
    if kind == "date" and (day := _whole_date(wanted)) is not None:
        yield from ((start, end) for start, end, found in _dates(plain) if found == day)
    elif kind == "number" and (amount := _whole_number(wanted)) is not None:
        yield from ((start, end) for start, end, found in _amounts(plain) if amount.is_said_by(found))
    else:
        is_code = kind == "code" and any(c.isalnum() for c in wanted)
        pattern = _code_pattern(wanted) if is_code else _text_pattern(wanted)
        yield from (match.span() for match in pattern.finditer(plain))


def admits(text: str) -> bool:
    """Whether a text says nothing but that it does not know."""
    return _ADMITS.fullmatch(_trimmed(text)) is not None


def _plain(text: str) -> str:
    """The text with all that does not count made alike."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_ALIKE).split())


def _trimmed(answer: str) -> str:
    """An answer without the punctuation around it, unless it is nothing else."""
    plain = _plain(answer)
    return plain.strip(_ENDS) or plain


# ── text and codes ────────────────────────────────────────────────────────────────────────────────────────


@remembered(4096)
def _text_pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(_bounded(re.escape(wanted), wanted))


def _bounded(pattern: str, wanted: str) -> str:
    """The pattern, not inside a longer word. A wanted thing that begins or ends with a sign needs no border there
    but that the sign is not repeated."""
    before = _BEFORE if wanted[0].isalnum() else f"(?<!{re.escape(wanted[0])})"
    after = _AFTER if wanted[-1].isalnum() else rf"(?!{re.escape(wanted[-1])}|\w)"
    return before + pattern + after


_CODE_WORD = re.compile(r"[+#]?[a-z0-9][a-z0-9\-_/.:#+]*")


def _is_code(text: str, answer: str) -> bool:
    """Letters or signs with digits among them, in one word or in several; one without a digit is in capitals."""
    words = text.split()
    capitals = [word for word in unicodedata.normalize("NFKC", answer).split() if word.isupper()]
    return (
        any(c.isdigit() for c in text)
        and all(_CODE_WORD.fullmatch(word) for word in words)
        and sum(not any(c.isdigit() for c in word) and word not in ("am", "pm") for word in words)
        <= sum(not any(c.isdigit() for c in word) for word in capitals)
    )


@remembered(4096)
def _code_pattern(wanted: str) -> re.Pattern[str]:
    pieces = [piece for piece in re.split(r"[ \-]+", wanted) if piece]
    letters = "".join(pieces)
    is_long = len(letters) >= LONG_CODE
    borders = set()
    at = 0
    for piece in pieces[:-1]:
        at += len(piece)
        borders.add(at)
    pattern = ""
    for i, c in enumerate(letters):
        if i and (is_long or i in borders or _is_seam(letters[i - 1], c)):
            pattern += r"(?: ?- ?| )?"
        pattern += re.escape(c)
    return re.compile(_bounded(pattern, letters))


def _is_seam(one: str, other: str) -> bool:
    return (one.isalpha() and other.isdigit()) or (one.isdigit() and other.isalpha())


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────

_UNITS = {
    "usd": "$ us$ usd dollar dollars",
    "eur": "€ eur euro euros",
    "gbp": "£ gbp pound pounds",
    "jpy": "¥ jpy yen",
    "inr": "₹ inr rupee rupees",
    "chf": "chf franc francs",
    "percent": "% percent pct",
    "pound": "lb lbs",
    "second": "s sec secs second seconds",
    "minute": "min mins minute minutes",
    "hour": "h hr hrs hour hours",
    "day": "d day days",
    "week": "wk wks week weeks",
    "month": "month months",
    "year": "yr yrs year years",
    "millimetre": "mm millimetre millimetres millimeter millimeters",
    "centimetre": "cm centimetre centimetres centimeter centimeters",
    "metre": "m metre metres meter meters",
    "kilometre": "km kilometre kilometres kilometer kilometers",
    "mile": "mi mile miles",
    "foot": "ft foot feet",
    "gram": "g gram grams",
    "kilogram": "kg kgs kilo kilos kilogram kilograms",
    "tonne": "t tonne tonnes",
    "litre": "l litre litres liter liters",
    "millilitre": "ml millilitre millilitres milliliter milliliters",
    "kilobyte": "kb kilobyte kilobytes",
    "megabyte": "mb megabyte megabytes",
    "gigabyte": "gb gigabyte gigabytes",
    "terabyte": "tb terabyte terabytes",
    "volt": "v volt volts",
    "watt": "w watt watts",
    "kilowatt": "kw kilowatt kilowatts",
    "kilowatt-hour": "kwh",
    "hertz": "hz hertz",
    "celsius": "°c celsius",
    "fahrenheit": "°f fahrenheit",
    "degree": "° degree degrees",
    "kmh": "km/h kmh kph",
    "mph": "mph",
}
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings.split()}
_MAGNITUDES = {
    "thousand": Decimal(10) ** 3,
    "million": Decimal(10) ** 6,
    "billion": Decimal(10) ** 9,
    "trillion": Decimal(10) ** 12,
    "bn": Decimal(10) ** 9,
    "mn": Decimal(10) ** 6,
}
_MONEY_SUFFIXES = {"": Decimal(1), "k": Decimal(10) ** 3, "m": Decimal(10) ** 6, "b": Decimal(10) ** 9}
_SIGNS = r"us\$|[$€£¥₹]"
_NUMBER = re.compile(
    rf"(?:(?P<money>{_SIGNS}|\b(?:usd|eur|gbp|jpy|inr|chf)) ?)?"
    r"(?P<sign>[-+])?"
    rf"(?P<sign_money>{_SIGNS})?"
    r"(?<![\w.,'/:])(?<!\w-)(?P<digits>\d+(?:[.,']\d+|(?<!\d\d\d\d) \d{3}(?!\d))*)"
    r"(?![\d]|[.,':/]\d|-\d)"
    r"(?: ?(?P<magnitude>thousand|million|billion|trillion|bn|mn)\b)?"
    r"(?P<gap>[ -]?)(?P<unit>°[cf]?|[%€£$¥₹]|km/h|per cent\b|us dollars?\b|us\$|[^\W\d_]\w*)?"
)
_GROUPED = re.compile(r"\d{1,3}(?:([ ,.'])\d{3})(?:\1\d{3})*")


@dataclass(frozen=True, slots=True)
class _Amount:
    value: Decimal
    unit: str
    """As in _UNITS, an unknown word without its plural s, or empty."""
    is_attached: bool
    """Whether the unit hangs on the digits: 12kg, 12-month; and 12th, 12b, which are no 12."""

    def is_said_by(self, found: _Amount) -> bool:
        if self.value != found.value:
            return False
        if self.unit:
            return self.unit == found.unit
        is_known = found.unit in _UNITS
        return found.unit != "percent" and (is_known or not found.is_attached)


def _whole_number(text: str) -> _Amount | None:
    """The amount that a text is, when it is nothing else. A very long run of digits is a code."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    if match["digits"].isdigit() and len(match["digits"]) > MOST_DIGITS:
        return None
    amount = _amount(match)
    if amount is None or (amount.is_attached and amount.unit not in _UNITS):
        return None
    return amount


def _amounts(text: str) -> Iterator[tuple[int, int, _Amount]]:
    """(start, end, amount) of every number, its unit with it where that is one."""
    for match in _NUMBER.finditer(text):
        amount = _amount(match)
        if amount is not None:
            is_word = match["unit"] is not None and amount.unit not in _UNITS
            yield match.start(), match.start("unit") if is_word else match.end(), amount


def _amount(match: re.Match[str]) -> _Amount | None:
    value = _value(match["digits"])
    if value is None:
        return None
    if match["sign"] == "-":
        value = -value
    if match["magnitude"]:
        value *= _MAGNITUDES[match["magnitude"]]
    word = match["unit"] or ""
    if money := match["money"] or match["sign_money"]:
        if match["gap"]:
            return _Amount(value, _UNIT_OF[money], is_attached=False)
        if word not in _MONEY_SUFFIXES:
            return None
        return _Amount(value * _MONEY_SUFFIXES[word], _UNIT_OF[money], is_attached=False)
    word = word.replace("per cent", "percent").removeprefix("us ")
    unit = _UNIT_OF.get(word) or word.removesuffix("s")
    return _Amount(value, unit, is_attached=bool(word) and match["gap"] != " ")


def _value(digits: str) -> Decimal | None:
    """Digits with separators as a number; None where they are none, as in 1.2.3, 12,34,5 or 007."""
    if digits[0] == "0" and digits[1:2].isdigit():
        return None
    if digits.isdigit():
        return Decimal(digits)
    head, separator, tail = _split_fraction(digits)
    if separator and not tail.isdigit():
        return None
    if not head.isdigit():
        if _GROUPED.fullmatch(head) is None:
            return None
        head = re.sub(r"\D", "", head)
    return Decimal(f"{head}.{tail}" if separator else head)


def _split_fraction(digits: str) -> tuple[str, str, str]:
    """Whole part, decimal sign (or none), fraction. A single comma before three digits parts thousands, a single
    point never does."""
    signs = [c for c in digits if c in ".,"]
    if not signs:
        return digits, "", ""
    last = signs[-1]
    if signs.count(last) > 1:
        return digits, "", ""  # it parts groups
    head, _, tail = digits.rpartition(last)
    if last == "," and len(signs) == 1 and _GROUPED.fullmatch(digits):
        return digits, "", ""
    return head, last, tail


# ── dates ─────────────────────────────────────────────────────────────────────────────────────────────────

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ),
        1,
    )
    for name in names.split()
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"(?<![\w.,/:-])(?:"
    rf"(?P<y1>\d{{4}})(?P<s1>[-/.])(?P<m1>\d{{1,2}})(?P=s1)(?P<d1>\d{{1,2}})"
    rf"|(?P<m2>{_MONTH})\.? (?:the )?(?P<d2>{_DAY})(?:, ?| )(?P<y2>\d{{4}})"
    rf"|(?P<d3>{_DAY})(?: of)?[ -](?P<m3>{_MONTH})[.,]?[ -](?P<y3>\d{{4}})"
    rf"|(?P<a4>\d{{1,2}})(?P<s4>[-/.])(?P<b4>\d{{1,2}})(?P=s4)(?P<y4>\d{{4}})"
    rf")(?!\w|[-/.,:]\d)"
)


def _whole_date(text: str) -> date | None:
    """The day that a text is, when it is nothing else."""
    found = list(_dates(text))
    return found[0][2] if len(found) == 1 and found[0][:2] == (0, len(text)) else None


def _dates(text: str) -> Iterator[tuple[int, int, date]]:
    """(start, end, day) of every date that can mean one day only."""
    for match in _DATE.finditer(text):
        day = _day(match)
        if day is not None:
            yield match.start(), match.end(), day


def _day(match: re.Match[str]) -> date | None:
    if match["y1"]:
        return _on(match["y1"], int(match["m1"]), match["d1"])
    if match["y2"]:
        return _on(match["y2"], _MONTHS[match["m2"]], match["d2"])
    if match["y3"]:
        return _on(match["y3"], _MONTHS[match["m3"]], match["d3"])
    one, other = int(match["a4"]), int(match["b4"])
    readings = {_on(match["y4"], month, str(day)) for day, month in ((one, other), (other, one))} - {None}
    return readings.pop() if len(readings) == 1 else None


def _on(year: str, month: int, day: str) -> date | None:
    try:
        return date(int(year), month, int(day.rstrip("stndrh")))
    except ValueError:
        return None
