"""Tasks of number and choice: small sums, counts, comparisons, picking one of several."""

from __future__ import annotations

from recipes.seedling import facts
from recipes.seedling.reading import Turns
from recipes.seedling.writer import Forms, Writer, forms, words

_SUMS = {
    "+": forms("""What is {a} + {b}?
        {a} + {b} =
        Add {a} and {b}.
        What is the sum of {a} and {b}?
        {a} plus {b}?
        How much is {a} plus {b}?
        Compute {a} + {b}.
        Work out {a} + {b}."""),
    "-": forms("""What is {a} - {b}?
        {a} - {b} =
        Take {b} from {a}.
        What is the difference of {a} and {b}?
        {a} minus {b}?
        How much is {a} minus {b}?
        Compute {a} - {b}.
        Work out {a} - {b}."""),
    "*": forms("""What is {a} * {b}?
        {a} * {b} =
        Multiply {a} by {b}.
        What is the product of {a} and {b}?
        {a} times {b}?
        How much is {a} times {b}?
        Compute {a} * {b}.
        Work out {a} * {b}."""),
}
_THINGS = words("boxes chairs lamps pens books cups keys bags tables phones tickets files")
_STORIES = {
    "+": forms("""{n} has {a} {x} and gets {b} more. How many {x} does {n} have?
        There are {a} {x} in one room and {b} in another. How many in all?
        {n} ordered {a} {x} and later {b} more. How many {x} is that?
        We had {a} {x}; {n} brought {b} more. How many are there now?"""),
    "-": forms("""{n} has {a} {x} and gives away {b}. How many {x} are left?
        Of {a} {x}, {b} were sold. How many remain?
        {n} had {a} {x} and lost {b}. How many does {n} still have?
        There were {a} {x}, and {n} took {b} of them. How many are left?"""),
}  # fmt: skip


def add_up(w: Writer) -> Turns:
    """A small sum, difference or product, bare or in a story."""
    turns: Turns = []
    for _ in range(w.number(2, 6) if w.side == "train" else 1):
        sign = w.one(("+", "+", "-", "-", "*"))
        top = 10 if w.chance(0.4) else 100
        a, b = w.number(0, 10 if sign == "*" else top), w.number(0, 10 if sign == "*" else top)
        a, b = (max(a, b), min(a, b)) if sign == "-" else (a, b)
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        if sign in _STORIES and w.chance(0.3):
            asked = w.say(_STORIES[sign], n=w.person().split()[0], a=str(a), b=str(b), x=w.one(_THINGS))
        else:
            asked = w.say(_SUMS[sign], a=str(a), b=str(b))
        turns += [("user", asked), ("assistant", str(result))]
    return turns


_COUNT = forms(r"""How many names are in this list? {l}
    Count these: {l}
    {l}\nHow many is that?
    How many entries does this have? {l}
    How many are there? {l}
    Count the items: {l}
    Number of items in this list: {l}
    {l}\nHow many did I write?""")


def count(w: Writer) -> Turns:
    """How many items a list has."""
    turns: Turns = []
    for _ in range(w.number(1, 3) if w.side == "train" else 1):
        make = w.one((Writer.word, Writer.product, Writer.person, Writer.code, Writer.count))
        items = [make(w) for _ in range(w.number(1, 8))]
        turns += [("user", w.say(_COUNT, l=", ".join(items))), ("assistant", str(len(items)))]
    return turns


_MORE = forms("""Which is larger, {a} or {b}?
    Which number is bigger: {a} or {b}?
    What is the larger of {a} and {b}?
    {a} or {b}: which is more?""")
_LESS = forms("""Which is smaller, {a} or {b}?
    Which number is less: {a} or {b}?
    What is the smaller of {a} and {b}?
    {a} or {b}: which is less?""")
_PRICED = Forms("{e} costs {v}.", "The price of {e} is {v}.", "{e} is sold at {v}.", "You pay {v} for {e}.")
_MOST = forms("""Which one costs the most?
    What is the most expensive one?
    Which has the highest price?
    Which is the dearest?""")
_LEAST = forms("""Which one costs the least?
    What is the cheapest one?
    Which has the lowest price?
    Which can I get for the least money?""")


def compare(w: Writer) -> Turns:
    """The larger or smaller of numbers, or what costs the most or the least."""
    is_most = w.chance(0.5)
    top = w.one((20, 100, 1000))
    if w.chance(0.5):
        a, b = w.some(range(1, top), 2)
        asked = w.say(_MORE if is_most else _LESS, a=str(a), b=str(b))
        return [("user", asked), ("assistant", str(max(a, b) if is_most else min(a, b)))]
    things = [w.product() for _ in range(w.number(2, 4))]
    prices = w.some(range(1, top), len(things))
    lines = [
        facts.capital(w.say(_PRICED, e=f"the {t}", v=f"${p}")) for t, p in zip(things, prices, strict=True)
    ]
    best = prices.index(max(prices) if is_most else min(prices))
    asked = w.say(_MOST if is_most else _LEAST)
    return [("user", f"{' '.join(lines)}\n{asked}"), ("assistant", things[best])]


_GROUPS = {
    "colour": words("red blue green yellow orange purple black white grey brown pink"),
    "animal": words("dog cat horse cow sheep goat pig hen duck fox bear wolf mouse fish bird lion"),
    "fruit": words("apple pear plum cherry grape lemon banana peach melon berry"),
    "tool": words("hammer saw drill pliers wrench chisel file screwdriver axe shovel"),
    "vehicle": words("car bus train bicycle truck ship boat plane tram van"),
    "piece of furniture": words("chair table bed sofa desk shelf cupboard bench stool lamp"),
    "drink": words("water tea coffee milk juice beer wine lemonade cocoa"),
    "piece of clothing": words("shirt coat hat shoe sock glove scarf dress jacket belt"),
    "weekday": words("Monday Tuesday Wednesday Thursday Friday"),
    "month": words("January March April June July August October December"),
}
_CHOOSE = forms("""Which of these is a {g}: {l}?
    Pick the {g}: {l}.
    One of these is a {g}. Which? {l}
    Choose the {g} from {l}.
    Find the {g}: {l}.
    {l}: which one is a {g}?
    Which word is a {g}: {l}?
    Tell me which of {l} is a {g}.""")
_PLACE = forms("""What is the {o} item of this list? {l}
    Give me the {o} entry: {l}
    Which item is the {o}? {l}
    Take the {o} of these: {l}""")
_ORDINALS = ("first", "second", "third", "last")


def choose(w: Writer) -> Turns:
    """The one of several words that belongs to a group, or that stands at a place."""
    if w.chance(0.3):
        make = w.one((Writer.word, Writer.product, Writer.person, Writer.city))
        items = [make(w) for _ in range(w.number(3, 5))]
        ordinal = w.number(0, 3)
        asked = w.say(_PLACE, o=_ORDINALS[ordinal], l=", ".join(items))
        return [("user", asked), ("assistant", items[-1 if ordinal == 3 else ordinal])]
    groups = w.some(tuple(_GROUPS), w.number(2, 4))
    words = [w.one(_GROUPS[g]) for g in groups]
    listed = ", ".join(w.shuffled(words))
    return [("user", w.say(_CHOOSE, g=groups[0], l=listed)), ("assistant", words[0])]
