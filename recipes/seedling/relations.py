"""Kinds of invented things, and what is said of them in words of their own: entities and relations.

A relation is data: its nouns, the maker of its value, and the wordings that state it and ask for it. `facts` composes
more of them, and tells them.
"""

from __future__ import annotations

from dataclasses import dataclass

from recipes.seedling.writer import Forms, Make, Writer, forms

W = Writer


@dataclass(frozen=True, slots=True)
class Entity:
    """One invented thing: its kind, its bare name, and how a sentence calls it."""

    kind: str
    name: str
    called: str


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that can be said of a kind of entity: {e} is the entity and {v} the value."""

    kind: str
    nouns: tuple[str, ...]
    make: Make
    statements: Forms
    questions: Forms
    """Questions in words of their own; those that ask for a noun are composed by `question`."""


def _event(w: Writer) -> str:
    return (
        f"{w.word()} {w.one(('workshop', 'fair', 'review', 'audit', 'meeting', 'course', 'visit', 'launch'))}"
    )


def _rule(w: Writer) -> str:
    deed = w.one(
        ("travel", "orders", "hotel bills", "overtime", "repairs", "gifts", "refunds", "invoices", "training")
    )
    return f"{deed} {w.one(('over', 'under', 'above', 'below'))} {w.money()}"


_KINDS: dict[str, tuple[Make, str]] = {
    "product": (W.product, "the {}"),
    "person": (W.person, "{}"),
    "company": (W.company, "{}"),
    "project": (W.word, "project {}"),
    "team": (W.word, "the {} team"),
    "event": (_event, "the {}"),
    "order": (W.code, "order {}"),
    "site": (W.city, "the {} site"),
    "rule": (_rule, "{}"),
}
KINDS = tuple(_KINDS)


def entity(w: Writer, kind: str) -> Entity:
    make, called = _KINDS[kind]
    name = make(w)
    return Entity(kind, name, called.format(name))


def _relation(kind: str, nouns: str, make: Make, statements: str, questions: str) -> Relation:
    return Relation(kind, tuple(nouns.split("|")), make, forms(statements), forms(questions))


WRITTEN = (
    _relation("product", "price|list price|cost", W.money,
        """{e} costs {v}.
        The price of {e} is {v}.
        Customers pay {v} for {e}.
        {e} is sold for {v}.
        {e} is listed at {v}.
        We sell {e} at {v}.""",
        """How much does {e} cost?
        What does {e} cost?
        What do customers pay for {e}?
        For how much is {e} sold?
        How much is {e}?
        How much money is {e}?
        I want to buy {e}; how much is it?
        What would I pay for {e}?"""),
    _relation("product", "part number|item number|order code", W.code,
        """The part number of {e} is {v}.
        {e} has part number {v}.
        Part number {v} belongs to {e}.
        {e} is stocked as {v}.""",
        """Under which part number is {e} stocked?
        I need to order {e}; which part number is it?
        Which part number do I order for {e}?
        Which code does {e} have in the catalogue?"""),
    _relation("product", "launch date|release date", W.date,
        """{e} was launched on {v}.
        {e} went on sale on {v}.
        The launch of {e} was on {v}.
        {e} came out on {v}.""",
        """When was {e} launched?
        When did {e} come out?
        On which day was {e} released?
        When did {e} go on sale?"""),
    _relation("product", "weight", lambda w: f"{w.number(2, 90)} kg",
        """{e} weighs {v}.
        The weight of {e} is {v}.
        {e} has a weight of {v}.
        On the scale, {e} shows {v}.""",
        """How much does {e} weigh?
        How heavy is {e}?
        What does {e} weigh?
        How many kilograms is {e}?"""),
    _relation("product", "maker|manufacturer", W.company,
        """{e} is made by {v}.
        {v} makes {e}.
        {v} builds {e}.
        {e} comes from {v}.""",
        """Who makes {e}?
        Which company makes {e}?
        Which firm builds {e}?
        Who is {e} made by?"""),
    _relation("product", "warranty|guarantee", W.duration,
        """{e} has a warranty of {v}.
        The warranty of {e} lasts {v}.
        {e} comes with {v} of warranty.
        The guarantee on {e} runs for {v}.""",
        """How long is the warranty on {e}?
        How long is {e} under warranty?
        For how long does the guarantee on {e} run?
        How long does the warranty of {e} last?"""),
    _relation("person", "office|workplace", W.city,
        """{e} works in {v}.
        The office of {e} is in {v}.
        {e} is based in {v}.
        {e} has a desk in {v}.""",
        """Where does {e} work?
        Where is {e} based?
        In which city does {e} work?
        In which office do I find {e}?"""),
    _relation("person", "boss|manager|supervisor", W.person,
        """{e} reports to {v}.
        The boss of {e} is {v}.
        {v} supervises {e}.
        {v} is the manager of {e}.""",
        """Who does {e} report to?
        Who is the boss of {e}?
        Who supervises {e}?
        To whom does {e} report?"""),
    _relation("person", "phone extension|extension", W.phone,
        """The extension of {e} is {v}.
        {e} can be called on {v}.
        Call {e} on {v}.
        {e} answers the phone on {v}.""",
        """How can I call {e}?
        What number do I dial for {e}?
        On which extension is {e}?
        Which number reaches {e}?"""),
    _relation("person", "job|role", W.title,
        """{e} works as {v}.
        {e} is employed as {v}.
        The job of {e} is {v}.
        {e} was hired as {v}.""",
        """What does {e} do?
        What is {e} employed as?
        As what does {e} work?
        What kind of work does {e} do?"""),
    _relation("person", "start date|first day", W.date,
        """{e} joined on {v}.
        {e} started on {v}.
        The first day of {e} was {v}.
        {e} has been with us since {v}.""",
        """When did {e} join?
        When did {e} start?
        On which day did {e} join?
        Since when has {e} been with us?"""),
    _relation("person", "department", W.department,
        """{e} works in the {v} department.
        {e} belongs to {v}.
        {e} is part of {v}.
        {e} sits with {v}.""",
        """In which department is {e}?
        Which department does {e} work in?
        What department is {e} in?
        Which department does {e} belong to?"""),
    _relation("person", "email|email address", W.email,
        """The email of {e} is {v}.
        {e} can be reached at {v}.
        Write to {e} at {v}.
        {e} reads mail sent to {v}.""",
        """How can I write to {e}?
        At which address do I email {e}?
        Where do I send mail for {e}?
        Which email reaches {e}?"""),
    _relation("company", "account number|customer number", W.code,
        """The account number of {e} is {v}.
        {e} is billed on account {v}.
        {e} has the account number {v}.
        We bill {e} under {v}.""",
        """On which account is {e} billed?
        Which account does {e} have?
        Which account do I bill for {e}?
        Under what number do we bill {e}?"""),
    _relation("company", "head office|headquarters", W.city,
        """{e} has its head office in {v}.
        {e} is based in {v}.
        The head office of {e} is in {v}.
        {e} is run from {v}.""",
        """Where is {e} based?
        Where is the head office of {e}?
        In which city is {e}?
        From which city is {e} run?"""),
    _relation("company", "founder", W.person,
        """{e} was founded by {v}.
        {v} founded {e}.
        {v} started {e}.
        {e} was set up by {v}.""",
        """Who founded {e}?
        Who started {e}?
        By whom was {e} founded?
        Who set up {e}?"""),
    _relation("company", "number of employees|headcount", W.count,
        """{e} has {v} employees.
        {e} employs {v} people.
        {v} people work at {e}.
        The staff of {e} numbers {v}.""",
        """How many people work at {e}?
        How many employees does {e} have?
        How many people does {e} employ?
        How large is the staff of {e}?"""),
    _relation("project", "budget", W.money,
        """The budget of {e} is {v}.
        {e} has a budget of {v}.
        {e} may spend {v}.
        {v} is set aside for {e}.""",
        """How much may {e} spend?
        How much money does {e} have?
        How large is the budget of {e}?
        What sum is set aside for {e}?"""),
    _relation("project", "leader|lead", W.person,
        """{e} is led by {v}.
        {v} leads {e}.
        {v} is in charge of {e}.
        {v} runs {e}.""",
        """Who leads {e}?
        Who is in charge of {e}?
        By whom is {e} led?
        Who runs {e}?"""),
    _relation("project", "deadline|due date", W.date,
        """{e} must be finished by {v}.
        The deadline of {e} is {v}.
        {e} is due on {v}.
        {e} ends on {v}.""",
        """When is {e} due?
        By when must {e} be finished?
        When does {e} have to be done?
        When does {e} end?"""),
    _relation("event", "place|location", W.room,
        """{e} takes place in {v}.
        {e} is held in {v}.
        {e} will be in {v}.
        Come to {v} for {e}.""",
        """Where does {e} take place?
        Where is {e} held?
        In which room is {e}?
        Where do I go for {e}?"""),
    _relation("event", "time|start time", W.time,
        """{e} starts at {v}.
        {e} begins at {v}.
        We start {e} at {v}.
        At {v}, {e} opens.""",
        """At what time does {e} start?
        When does {e} begin?
        At which hour does {e} start?
        What time is {e}?"""),
    _relation("order", "delivery date|arrival date", W.date,
        """{e} arrives on {v}.
        {e} will be delivered on {v}.
        The delivery of {e} is on {v}.
        Expect {e} on {v}.""",
        """When does {e} arrive?
        When will {e} be delivered?
        On which day does {e} come?
        When should I expect {e}?"""),
    _relation("order", "customer|buyer", W.company,
        """{e} was placed by {v}.
        {v} placed {e}.
        {e} is for {v}.
        {e} goes to {v}.""",
        """Who placed {e}?
        Which company placed {e}?
        For whom is {e}?
        Who does {e} go to?"""),
    _relation("rule", "approver", W.person,
        """{v} signs off {e}.
        {v} approves {e}.
        {e} must be approved by {v}.
        {e} needs the signature of {v}.""",
        """Who signs off {e}?
        Who approves {e}?
        Who must approve {e}?
        Whose signature is needed for {e}?"""),
)  # fmt: skip
