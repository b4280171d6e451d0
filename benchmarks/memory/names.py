"""Invented names: of subjects by kind, and of the people, places and firms that answers name.

A name is made of parts, so that a look-alike can change exactly one of them. Nothing here knows relations.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace


def listed(text: str, between: str | None = None) -> list[str]:
    """The words of a text, by default those between white space."""
    return [word.strip() for word in text.split(between)]


ONSETS = listed(
    "b b c d d f g h j k l l m m n n p r r s s t t v v w y z br cr dr fl gl gr kl pl pr qu sk st tr zh"
)
VOWELS = listed("a a e e i i o o u u ai ea ou")
CODAS = ["", "", "", "", "", "", "l", "n", "r", "s", "x", "m", "nd", "rk", "lt", "sh"]

WORDS: dict[str, list[str]] = {
    "first": listed("""Agnes Alba Anders Aoife Arjun Astrid Benedikt Bruno Camille Carmen Cem Dalia Daniel Edda Elif
        Emeka Enzo Esther Farid Fiona Frida Gaspard Goran Greta Hamid Hanna Henrik Ines Ingrid Ivo Jadwiga Jakub
        Jasmin Johanna Jonas Kaito Karim Katja Lena Leon Linus Lucia Magnus Maite Marek Marta Mei Milan Miriam
        Nadia Nils Noor Olga Oskar Paloma Pavel Petra Quentin Rafael Renata Rosa Ruben Samira Selim Signe Silvia
        Stefan Tamar Teresa Theo Tomas Ulla Valentin Vera Viktor Wanda Xenia Yara Yusuf Zora"""),
    "tier": listed("Pro Lite Max Mini Plus Basic Prime Ultra Compact Duo"),
    "ware": listed(
        """Pump|Valve|Light Sensor|Drill|Scanner|Router|Kettle|Heater|Lamp|Printer|Mixer|Charger|Speaker|Fan|
        Camera|Lock|Monitor|Filter|Trolley|Ladder""",
        "|",
    ),
    "trade": listed(
        """Foods|Mills|Logistics|Brothers|& Sons|Textiles|Clinics|Hotels|Motors|Glass|Publishing|Energy|
        Insurance|Dairies|Farms|Retail|Partners|Group|Shipping|Optics""",
        "|",
    ),
    "making": listed(
        """Steelworks|Plastics|Chemicals|Packaging|Castings|Bearings|Paper|Timber|Electronics|Tools|Coatings|
        Cables|Fasteners|Rubber|Instruments|Metals|Foundry|Gears|Foils|Supplies""",
        "|",
    ),
    "adjective": listed("""Blue Quiet Northern Amber Hidden Silver Golden Early Distant Broken Crimson Eager Frozen
        Gentle Hollow Iron Jade Kind Little Misty Narrow Open Pale Rapid Scarlet Tall Upper Velvet Warm Young Bold
        Copper Dusty Endless Fair Grand High Ivory Lively Mighty"""),
    "emblem": listed("""Lantern Heron Anchor Bridge Canyon Dolphin Ember Falcon Garden Harbour Island Jigsaw Kestrel
        Ladder Meadow Needle Orchard Pebble Quarry River Summit Thistle Umbrella Valley Willow Compass Acorn Beacon
        Cedar Delta Engine Forest Glacier Hammer Ibis Juniper Lagoon Marble Nutmeg Otter Pepper Raven Saddle
        Tundra"""),
    "place": listed("Yard Warehouse House Plant Annex Depot Tower Works Centre Hall"),
    "device": listed(
        """Press|Lathe|Milling Machine|Packing Line|Laser Cutter|Oven|Compressor|Crane|Welding Robot|Saw|
        Grinder|Labeller|Conveyor|Boiler""",
        "|",
    ),
    "paper": listed(
        """Framework Contract|Supply Agreement|Service Contract|Licence Agreement|Maintenance Contract|
        Rental Agreement|Consulting Contract|Loan Agreement""",
        "|",
    ),
    "field": listed(
        """Metal|Export|Retail|Quality|Product|Field|Customer|Paint|Tool|Data|Market|Plant|Freight|Energy|
        Print|Colour|Polymer|Sensor|Garment|Claims""",
        "|",
    ),
    "function": listed(
        """Finishing|Logistics|Assurance|Design|Service|Research|Planning|Accounting|Testing|Support|
        Analytics|Purchasing|Training|Engineering|Compliance|Relations|Safety|Assembly""",
        "|",
    ),
    "program": listed(
        """Ledger|Desk|Board|Flow|Track|Vault|Sheet|Hub|Planner|Mail|Scan|Store|Forms|Sync""", "|"
    ),
    "wheels": listed("Van Forklift Truck Car Minibus Tractor Scooter Trailer"),
    "topic": listed(
        """Travel|Remote Work|Password|Gift|Overtime|Safety|Privacy|Smoking|Parking|Expense|Visitor|Backup|
        Training|Recycling|Laptop|Dress|Vacation|Incident|Supplier|Alcohol|Sponsoring|Archive|Photo|Key""",
        "|",
    ),
    "rule": listed("Policy Guideline Directive Standard Rules Code"),
    "sort": listed("Global Interim Regional Site Group Internal European Seasonal"),
}

PATTERNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "employee": (("first", "last"), ("first", "last"), ("first", "initial", "last")),
    "department": (("field", "function", "digits1"), ("brand", "function"), ("field", "function", "brand")),
    "customer": (("brand", "trade"), ("brand", "and_brand"), ("brand", "brand2", "trade")),
    "supplier": (("brand", "making"), ("last", "making"), ("brand", "making", "city")),
    "product": (
        ("brand", "model"),
        ("brand", "tier"),
        ("brand", "tier", "digits3"),
        ("brand", "ware"),
        ("brand3",),
    ),
    "machine": (("device", "mark"), ("brand", "device"), ("brand", "device", "digits2")),
    "vehicle": (("wheels", "plate"), ("wheels", "digits3"), ("brand", "wheels", "digits2")),
    "site": (("city", "place"), ("brand", "place"), ("city", "place", "digits1")),
    "software": (("brandword",), ("brand", "program"), ("brand", "program", "digits1")),
    "project": (("adjective", "emblem"), ("project", "brand"), ("adjective", "emblem", "digits2")),
    "contract": (("contract_code",), ("paper", "brand"), ("paper", "digits4")),
    "policy": (
        ("sort", "topic", "rule", "decimal"),
        ("topic", "rule", "brand"),
        ("topic", "rule", "decimal"),
    ),
}
KINDS = tuple(PATTERNS)

_SYLLABLES = {"last": 2, "brand": 2, "brand2": 2, "brand3": 3, "city": 2, "brandword": 3, "and_brand": 2}
INVENTED = frozenset(_SYLLABLES)


@dataclass(frozen=True, slots=True)
class Part:
    """One word (or number) of a name: what it is, and its pieces, which are syllables where it is invented."""

    slot: str
    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        word = "".join(self.pieces)
        if self.slot == "city":
            return word.capitalize() + "wick"
        if self.slot == "and_brand":
            return "& " + word.capitalize()
        return word.capitalize() if self.slot in INVENTED else word


@dataclass(frozen=True, slots=True)
class Name:
    """A subject's name as its parts."""

    kind: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self.parts)


def draw(kind: str, rng: random.Random) -> Name:
    """A name of that kind."""
    return Name(kind, tuple(_part(slot, rng) for slot in rng.choice(PATTERNS[kind])))


def person(rng: random.Random) -> str:
    return f"{_part('first', rng).text} {_part('last', rng).text}"


def firm(rng: random.Random) -> str:
    return f"{_part('brand', rng).text} {_part('trade', rng).text}"


def city(rng: random.Random) -> str:
    return _part("city", rng).text


def word(rng: random.Random) -> str:
    """An invented word in small letters."""
    return _part("brand", rng).text.lower()


CHANGES = ("digit", "syllable", "first name", "last name", "word", "longer")
"""How a look-alike differs from the name it looks like."""


def look_alikes(name: Name, rng: random.Random) -> dict[str, str]:
    """For each change that the name allows, one name that differs by it alone. They may be taken, ask `Index`."""
    found: dict[str, str] = {}
    for change in CHANGES:
        changed = _changed(name, change, rng)
        if changed is not None and squashed(changed) != squashed(name.text):
            found[change] = changed
    return found


def squashed(text: str) -> str:
    """Letters and digits alone, without case: what of a name is left when spaces and marks are lost."""
    return re.sub(r"[\W_]", "", text.casefold())


class Index:
    """Finds whether a text is a name that is taken, or within one slip of one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._taken: set[str] = set()
        self._slips: dict[str, set[str]] = {}
        """Each name with one character left out → the names it may be. Two texts that are one insertion, omission,
        replacement or swap of neighbours apart share such a form."""
        for text in names:
            self.add(text)

    def add(self, text: str) -> None:
        key = squashed(text)
        self._taken.add(key)
        for form in _forms(key):
            self._slips.setdefault(form, set()).add(key)

    def __contains__(self, text: str) -> bool:
        return squashed(text) in self._taken

    def is_near(self, text: str, *, apart_from: str = "") -> bool:
        """True when some name other than `apart_from` may be meant by the text, with at most one slip."""
        own = {squashed(apart_from)}
        return any(self._slips.get(form, set()) - own for form in _forms(squashed(text)))


def _forms(key: str) -> set[str]:
    return {key} | {key[:i] + key[i + 1 :] for i in range(len(key))}


def _part(slot: str, rng: random.Random) -> Part:
    if slot in WORDS:
        return Part(slot, (rng.choice(WORDS[slot]),))
    if slot in _SYLLABLES:
        count = _SYLLABLES[slot] + (rng.random() < 0.15)
        return Part(slot, tuple(_syllable(rng) for _ in range(count)))
    return Part(slot, (_code(slot, rng),))


def _syllable(rng: random.Random) -> str:
    return rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)


def _code(slot: str, rng: random.Random) -> str:
    letters = "".join(rng.choices("ABCDEFGHKLMNPRSTUVWXZ", k=2))
    if slot.startswith("digits"):
        count = int(slot[-1])
        return str(rng.randrange(10 ** (count - 1) + (count == 1), 10**count))
    if slot == "initial":
        return letters[0] + "."
    if slot == "project":
        return rng.choice(("Project", "Operation", "Programme"))
    if slot == "model":
        return rng.choice((f"{letters[0]}{rng.randrange(2, 99)}", f"{letters}-{rng.randrange(100, 999)}"))
    if slot == "mark":
        return f"{rng.randrange(2, 60)}-{letters[0]}{rng.randrange(1, 9)}"
    if slot == "plate":
        return f"{letters}-{rng.choice('ABCDEFGHK')} {rng.randrange(100, 9999)}"
    if slot == "decimal":
        return f"{rng.randrange(1, 10)}.{rng.randrange(0, 10)}"
    assert slot == "contract_code", f"no way to make {slot}"
    return f"{letters[0]}-{rng.randrange(1000, 9999)}-{letters}"


def _changed(name: Name, change: str, rng: random.Random) -> str | None:
    if change == "digit":
        return _other_digit(name.text, rng)
    if change == "longer":
        tail = (
            "-" + _part("last", rng).text
            if name.kind == "employee"
            else " " + rng.choice(("II", "Plus", "B", "24"))
        )
        return name.text + tail
    slots = {
        "syllable": INVENTED,
        "first name": {"first"},
        "last name": {"last"} if name.kind == "employee" else set(),
        "word": set(WORDS) - {"first"},
    }[change]
    places = [i for i, part in enumerate(name.parts) if part.slot in slots]
    if not places:
        return None
    at = rng.choice(places)
    old = name.parts[at]
    for _ in range(20):
        if change == "syllable":
            syllable = rng.randrange(len(old.pieces))
            pieces = tuple(_syllable(rng) if i == syllable else p for i, p in enumerate(old.pieces))
            new = replace(old, pieces=pieces)
        else:
            new = _part(old.slot, rng)
        if not Index([old.text]).is_near(new.text):
            return replace(name, parts=(*name.parts[:at], new, *name.parts[at + 1 :])).text
    return None


def _other_digit(text: str, rng: random.Random) -> str | None:
    places = [i for i, c in enumerate(text) if c.isdigit()]
    if not places:
        return None
    at = rng.choice(places)
    first = "" if at and text[at - 1].isdigit() else "0"
    digit = rng.choice([d for d in "0123456789" if d != text[at] and d not in first])
    return text[:at] + digit + text[at + 1 :]
