"""An invented company: facts about invented subjects, a pure function of a seed.

Twelve kinds of subjects with five or six relations each, some of which are easily confused on purpose (price and
monthly fee, start and end, manager and mentor). Of each subject some relations are taught and at least one is not.
It knows neither the memory nor how a question is asked in the exam; `wordings` holds both ways of asking.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.memory import names, wordings
from benchmarks.memory.names import Name, listed

MONTHS = listed("""January February March April May June July August September October November December""")
GOODS_OF = listed("rubber steel copper paper plastic wooden glass ceramic cotton brass nylon leather")
GOODS = listed(
    "seals springs pallets labels hoses gaskets bolts trays belts brushes lenses filters rings crates"
)
JOBS_OF = listed("Senior Junior Regional Chief Technical Assistant Lead Deputy")
JOBS = listed(
    """Accountant|Controller|Welder|Buyer|Chemist|Data Analyst|Electrician|Planner|Recruiter|Test Engineer|
    Sales Trainer|Warehouse Clerk|Translator|Nurse|Safety Officer""",
    "|",
)
STREETS = listed(
    "Harrow Lane|Mill Street|Canal Road|Station Square|Abbey Way|Foundry Row|Quay Street|Orchard Close", "|"
)
FLOORS = listed("ground first second third fourth fifth sixth seventh eighth ninth")


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that can be asked about a kind of subjects."""

    kind: str
    name: str
    noun: str
    """As a text calls it: "the monthly fee"."""
    answer_kind: str
    """text, number, date or code, as the fact bank knows them."""
    draw: Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Fact:
    """One taught fact, and what stands in the file for it."""

    subject: Name
    relation: Relation
    answer: str

    @property
    def kind(self) -> str:
        return self.subject.kind

    @property
    def wordings(self) -> tuple[str, ...]:
        """The four taught ones, the question first."""
        return wordings.taught(self.kind, self.relation.name, self.subject.text)

    @property
    def question(self) -> str:
        return self.wordings[0]

    @property
    def unseen(self) -> tuple[str, ...]:
        """The exam's ways of asking it."""
        return wordings.unseen(self.kind, self.relation.name, self.subject.text)

    def row(self, *, with_subject: bool = False) -> dict[str, Any]:
        """As a line of the file that is taught."""
        row: dict[str, Any] = {
            "question": self.question,
            "wordings": list(self.wordings[1:]),
            "answer": self.answer,
        }
        return row | ({"subject": self.subject.text} if with_subject else {})


def make_facts(n: int, seed: int) -> list[Fact]:
    """`n` facts about as many subjects as that takes; names are distinct also without case, spaces and marks."""
    rng = random.Random(f"facts {seed}")
    taken = names.Index(())
    facts: list[Fact] = []
    while len(facts) < n:
        subject = names.draw(rng.choice(names.KINDS), rng)
        if subject.text in taken:
            continue
        taken.add(subject.text)
        relations = list(RELATIONS[subject.kind].values())
        for relation in rng.sample(relations, rng.randint(2, len(relations) - 1)):
            facts.append(Fact(subject, relation, relation.draw(rng)))
    return facts[:n]


def random_facts(n: int, seed: int) -> list[Fact]:
    """The same with answers of 32 random characters: nothing in them can be guessed."""
    rng = random.Random(f"random {seed}")
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return [Fact(f.subject, f.relation, "".join(rng.choices(letters, k=32))) for f in make_facts(n, seed)]


def subjects(facts: Iterable[Fact]) -> list[Name]:
    """Every subject once, in order."""
    return list({fact.subject.text: fact.subject for fact in facts}.values())


def untaught(facts: Sequence[Fact]) -> list[tuple[Name, Relation]]:
    """What could be asked about the subjects, and was not taught."""
    known = {(fact.subject.text, fact.relation.name) for fact in facts}
    return [
        (subject, relation)
        for subject in subjects(facts)
        for relation in RELATIONS[subject.kind].values()
        if (subject.text, relation.name) not in known
    ]


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────


def _money(low: int, high: int, step: int = 10) -> Callable[[random.Random], str]:
    return lambda rng: f"{rng.randrange(low, high, step):,} euros"


def _date(rng: random.Random) -> str:
    return f"{rng.randrange(1, 29)} {rng.choice(MONTHS)} {rng.randrange(2012, 2031)}"


def _code(form: str) -> Callable[[random.Random], str]:
    """A code by its form: # is a digit, @ a letter."""

    def draw(rng: random.Random) -> str:
        return "".join(
            rng.choice("123456789") if c == "#" else rng.choice("ABCDEFGHKLMNPRSTVXZ") if c == "@" else c
            for c in form
        )

    return draw


def _goods(rng: random.Random) -> str:
    return f"{rng.choice(GOODS_OF)} {rng.choice(GOODS)} and {rng.choice(GOODS_OF)} {rng.choice(GOODS)}"


def _job(rng: random.Random) -> str:
    return f"{rng.choice(JOBS_OF)} {rng.choice(JOBS)}"


def _address(rng: random.Random) -> str:
    return f"{rng.randrange(1, 180)} {rng.choice(STREETS)}, {names.city(rng)}"


def _room(rng: random.Random) -> str:
    return rng.choice(
        (f"Room {rng.randrange(100, 999)}", f"{rng.choice('ABCDE')} {rng.randrange(9)}.{rng.randrange(40)}")
    )


def _version(rng: random.Random) -> str:
    return f"{rng.randrange(1, 20)}.{rng.randrange(0, 30)}.{rng.randrange(0, 10)}"


def _relations(kind: str, *rows: tuple[str, str, str, Callable[[random.Random], str]]) -> dict[str, Relation]:
    return {name: Relation(kind, name, noun, answer_kind, draw) for name, noun, answer_kind, draw in rows}


RELATIONS: dict[str, dict[str, Relation]] = {
    "employee": _relations(
        "employee",
        ("manager", "manager", "text", names.person),
        ("mentor", "mentor", "text", names.person),
        ("room", "office", "text", _room),
        ("start_date", "start date", "date", _date),
        ("extension", "phone extension", "code", _code("####")),
        ("job_title", "job title", "text", _job),
    ),
    "department": _relations(
        "department",
        ("head", "head", "text", names.person),
        ("deputy", "deputy head", "text", names.person),
        ("headcount", "headcount", "number", lambda rng: str(rng.randrange(3, 240))),
        (
            "floor",
            "floor",
            "text",
            lambda rng: f"{rng.choice(FLOORS)} floor, {rng.choice(('east', 'west'))} wing",
        ),
        (
            "mailbox",
            "mailbox",
            "code",
            lambda rng: f"{names.word(rng)}.{names.word(rng)}@{names.word(rng)}.example",
        ),
    ),
    "customer": _relations(
        "customer",
        ("account_manager", "account manager", "text", names.person),
        ("contact", "contact person", "text", names.person),
        ("customer_number", "customer number", "code", _code("K-#####")),
        ("discount", "discount", "number", lambda rng: f"{rng.randrange(2, 45)} percent"),
        ("credit_limit", "credit limit", "number", _money(5_000, 250_000, 500)),
    ),
    "supplier": _relations(
        "supplier",
        ("sales_contact", "sales contact", "text", names.person),
        ("buyer", "buyer", "text", names.person),
        ("goods", "range of goods", "text", _goods),
        ("lead_time", "lead time", "number", lambda rng: f"{rng.randrange(2, 120)} days"),
        ("city", "city", "text", names.city),
    ),
    "product": _relations(
        "product",
        ("price", "price", "number", _money(10, 9_900, 5)),
        ("monthly_fee", "monthly fee", "number", _money(5, 900, 1)),
        ("owner", "product owner", "text", names.person),
        ("launch_date", "launch date", "date", _date),
        ("end_of_sale", "end-of-sale date", "date", _date),
        ("article_number", "article number", "code", _code("@@-####-#")),
    ),
    "machine": _relations(
        "machine",
        ("operator", "operator", "text", names.person),
        ("serial_number", "serial number", "code", _code("##@####@")),
        ("purchase_price", "purchase price", "number", _money(4_000, 390_000, 100)),
        ("repair_cost", "cost of the last repair", "number", _money(50, 9_000)),
        ("next_service", "next service date", "date", _date),
    ),
    "vehicle": _relations(
        "vehicle",
        ("driver", "driver", "text", names.person),
        ("mileage", "mileage", "number", lambda rng: f"{rng.randrange(1_200, 290_000):,} km"),
        ("inspection_date", "inspection date", "date", _date),
        ("leasing_rate", "leasing rate", "number", _money(120, 1_900, 1)),
        ("parking_space", "parking space", "code", _code("P#-###")),
    ),
    "site": _relations(
        "site",
        ("address", "address", "text", _address),
        ("caretaker", "caretaker", "text", names.person),
        ("rent", "rent", "number", _money(800, 48_000)),
        ("opening_date", "opening date", "date", _date),
        ("alarm_code", "alarm code", "code", _code("####@")),
    ),
    "software": _relations(
        "software",
        ("administrator", "administrator", "text", names.person),
        ("version", "version", "code", _version),
        ("vendor", "vendor", "text", names.firm),
        ("yearly_cost", "yearly cost", "number", _money(300, 90_000, 50)),
        ("host", "server", "code", lambda rng: f"srv-{names.word(rng)}-{rng.randrange(1, 60):02d}"),
    ),
    "project": _relations(
        "project",
        ("leader", "leader", "text", names.person),
        ("sponsor", "sponsor", "text", names.person),
        ("budget", "budget", "number", _money(10_000, 900_000, 500)),
        ("start_date", "start date", "date", _date),
        ("deadline", "deadline", "date", _date),
        ("cost_centre", "cost centre", "code", _code("#####")),
    ),
    "contract": _relations(
        "contract",
        ("partner", "partner", "text", names.firm),
        ("start_date", "start date", "date", _date),
        ("end_date", "end date", "date", _date),
        ("notice_period", "notice period", "number", lambda rng: f"{rng.randrange(2, 27)} weeks"),
        ("value", "value", "number", _money(3_000, 990_000, 500)),
        ("signatory", "signatory", "text", names.person),
    ),
    "policy": _relations(
        "policy",
        ("owner", "owner", "text", names.person),
        ("approver", "approver", "text", names.person),
        ("effective_date", "effective date", "date", _date),
        ("review_date", "review date", "date", _date),
        ("document_number", "document number", "code", _code("@@@-####")),
    ),
}
