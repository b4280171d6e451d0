"""What kind of answer a question wants, and what kind a stored one is: who is told by a name, when by a date.

A question whose kind no stored answer of a subject has asks for something that was not taught. It knows patterns
of English answers, no questions.
"""

from __future__ import annotations

import re

from inhouse.memory.words import listed, remembered

WANTED = listed("person team place money percent number date time duration code email phone url yesno text")
"""Kinds that a question may want, as the lexicon names them."""
STORED = listed("name money percent number date time duration code email phone url yesno text")
"""Kinds that an answer may look like."""

LONGEST_KIND = 120
"""Letters of the longest answer that may be anything but text."""
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*\.?"
_UNIT = r"(?:seconds?|minutes?|mins?|hours?|hrs?|days?|nights?|weeks?|months?|quarters?|years?)"
_WORDED = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty"
_PATTERNS = (
    ("email", re.compile(r"^\S+@\S+\.\w+$")),
    ("url", re.compile(r"^(?:https?://\S+|www\.\S+|[\w-]+(?:\.[\w-]+)+/\S*)$", re.I)),
    ("yesno", re.compile(r"^(?:yes|no)(?![\w-])", re.I)),
    ("percent", re.compile(r"\d\s*(?:%|percent|per cent)", re.I)),
    (
        "money",
        re.compile(
            r"[$€£¥]\s*\d|\d[\d.,]{0,20}\s*(?:[$€£¥]|euros?\b|eur\b|dollars?\b|usd\b|pounds?\b|gbp\b|chf\b|francs?\b|cents?\b)"
            r"|\b(?:eur|usd|gbp|chf)\s*\d",
            re.I,
        ),
    ),
    (
        "date",
        re.compile(
            rf"\b{_MONTH}\s+\d|\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}|\b\d{{4}}-\d\d-\d\d\b"
            r"|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|^(?:19|20)\d\d$|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b"
            rf"|^{_MONTH}$",
            re.I,
        ),
    ),
    ("duration", re.compile(rf"\b(?:\d+|{_WORDED}|an?|half an?)[\s-]+{_UNIT}\b", re.I)),
    ("time", re.compile(r"\b\d{1,2}[:.]\d\d\b(?!\.)|\b\d{1,2}\s*(?:am|pm|a\.m\.|p\.m\.|o'clock)\b", re.I)),
    ("phone", re.compile(r"^(?:\+|00|\(?0)[\d\s()/.-]{6,}$")),
    (
        "number",
        re.compile(rf"^(?:about |around )?[\d.,]+(?:\s+[a-zA-Z]+){{0,2}}$|^(?:{_WORDED})(?:\s+\w+)?$", re.I),
    ),
    ("code", re.compile(r"^(?=\S*\d)[\w./:#-]+(?:\s(?=\S*\d)[\w./-]+)*$")),
    (
        "name",
        re.compile(
            r"^(?:[A-Z][\w'’.-]*|of|de|van|von|der|and|&|the)(?:\s+(?:[A-Z&][\w'’.-]*|of|de|van|von|der|and|the))*$"
        ),
    ),
)

_FITS: dict[str, dict[str, float]] = {
    "person": {"name": 1.0, "text": 0.4},
    "team": {"name": 1.0, "text": 0.8},
    "place": {"name": 1.0, "text": 1.0, "code": 0.7, "number": 0.4},
    "money": {"money": 1.0, "number": 0.7, "text": 0.1},
    "percent": {"percent": 1.0, "number": 0.5},
    "number": {
        "number": 1.0,
        "code": 0.5,
        "date": 0.3,
        "money": 0.2,
        "percent": 0.2,
        "duration": 0.2,
        "text": 0.2,
    },
    "date": {"date": 1.0, "time": 0.2, "duration": 0.1, "number": 0.2, "text": 0.3},
    "time": {"time": 1.0, "date": 0.3, "text": 0.3, "number": 0.2},
    "duration": {"duration": 1.0, "number": 0.6, "text": 0.3, "date": 0.1},
    "code": {"code": 1.0, "number": 0.9, "phone": 0.5, "name": 0.4, "date": 0.3, "text": 0.2},
    "email": {"email": 1.0, "text": 0.1},
    "phone": {"phone": 1.0, "number": 0.9, "code": 0.7},
    "url": {"url": 1.0, "text": 0.2, "code": 0.2},
    "yesno": {"yesno": 1.0, "text": 0.3},
    "text": {
        "text": 1.0,
        "name": 0.9,
        "code": 0.5,
        "number": 0.4,
        "yesno": 0.5,
        "percent": 0.3,
        "duration": 0.3,
    },
}


@remembered(65536)
def stored_kind(answer: str) -> str:
    """What an answer looks like: one of STORED."""
    text = answer.strip().rstrip(".")
    if len(text) > LONGEST_KIND:
        return "text"
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), "text")


FITS = tuple(tuple(_FITS[wanted].get(stored, 0.0) for stored in STORED) for wanted in WANTED)
"""[WANTED][STORED]: how well an answer that looks so can be what is wanted so."""
