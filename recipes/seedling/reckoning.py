"""Tasks of number: small sums, counts, comparisons. Both sides use the same numbers and differ in the wordings."""

from __future__ import annotations

from recipes.seedling.choosing import choose
from recipes.seedling.questions import capital
from recipes.seedling.reading import Turns
from recipes.seedling.writer import Make, Writer, forms, words

__all__ = ["add_up", "choose", "compare", "count"]

W = Writer

# ── sums ──────────────────────────────────────────────────────────────────────────────────────────────────

_SUMS = {
    "+": forms("""What is {a} + {b}?
        {a} + {b} =
        Add {a} and {b}.
        What do you get for {a} + {b}?
        What is the sum of {a} and {b}?
        {a} plus {b}?
        How much is {a} plus {b}?
        How much is the sum of {a} and {b}?
        Compute {a} + {b}.
        What do {a} and {b} add up to?
        {a}+{b}=
        Compute the sum of {a} and {b}.
        What is {a} plus {b}?
        Please add {a} and {b}.
        How much do you get for {a} + {b}?
        How much is {a} + {b}?
        Tell me the sum of {a} and {b}.
        What do I get if I add {a} and {b}?
        Add {b} to {a}.
        Add {a} + {b}, please.
        The sum of {a} and {b}?
        {a} and {b} make how much?
        {a} plus {b} is what?
        {a} plus {b} makes how much?"""),
    "-": forms("""What is {a} - {b}?
        {a} - {b} =
        Take {b} from {a}.
        What do you get for {a} - {b}?
        What is the difference of {a} and {b}?
        {a} minus {b}?
        How much is {a} minus {b}?
        How much is the difference of {a} and {b}?
        Compute {a} - {b}.
        What is left of {a} without {b}?
        {a}-{b}=
        Compute the difference of {a} and {b}.
        What is {a} minus {b}?
        Please take {b} from {a}.
        How much do you get for {a} - {b}?
        How much is {a} - {b}?
        Tell me the difference of {a} and {b}.
        What do I get if I take {b} from {a}?
        Take {b} away from {a}.
        Please take {b} away from {a}.
        The difference of {a} and {b}?
        {a} less {b} makes how much?
        {a} minus {b} is what?
        {a} minus {b} makes how much?"""),
    "*": forms("""What is {a} * {b}?
        {a} * {b} =
        Multiply {a} by {b}.
        What do you get for {a} * {b}?
        What is the product of {a} and {b}?
        {a} times {b}?
        How much is {a} times {b}?
        How much is the product of {a} and {b}?
        Compute {a} * {b}.
        What do I get if I multiply {a} by {b}?
        {a}*{b}=
        Compute the product of {a} and {b}.
        What is {a} times {b}?
        Please multiply {a} by {b}.
        How much do you get for {a} * {b}?
        How much is {a} * {b}?
        Tell me the product of {a} and {b}.
        Multiply {a} and {b}.
        The product of {a} and {b}?
        Please multiply {a} and {b}.
        {a} times {b} is what?
        {a} times {b} makes how much?
        {a} * {b}?
        What is {a} multiplied by {b}?"""),
}
_THINGS = words("boxes chairs lamps pens books cups keys bags tables phones tickets files")
_STORIES = {
    "+": forms("""{n} has {a} {x} and gets {b} more. How many {x} does {n} have?
        There are {a} {x} in one room and {b} in another. How many in all?
        {n} ordered {a} {x} and later {b} more. How many {x} is that?
        {n} has {a} {x} and orders {b} more. How many {x} does {n} have?
        We had {a} {x}; {n} brought {b} more. How many are there now?
        {n} bought {a} {x} and then {b} more. How many {x} did {n} buy?
        {a} {x} came today and {b} yesterday. How many {x} came in all?
        {n} bought {a} {x} today and {b} yesterday. How many {x} is that in all?
        {n} has {a} {x}, and I have {b}. How many {x} do we have together?
        We use {a} {x} here and {b} at the other site. How many in all?
        There were {a} {x}, and {b} more came. How many {x} are there now?
        We had {a} {x}, and {b} more came. How many {x} do we have now?
        {n} counted {a} {x} here and {b} there. How many {x} are there in all?
        {n} found {a} {x} and then {b} more. How many {x} did {n} find?
        One shelf holds {a} {x} and another holds {b}. How many {x} do they hold?
        There are {a} {x} here and {b} there. How many {x} are there together?"""),
    "-": forms("""{n} has {a} {x} and gives away {b}. How many {x} are left?
        Of {a} {x}, {b} were sold. How many remain?
        {n} had {a} {x} and lost {b}. How many does {n} still have?
        {n} had {a} {x} and gave away {b}. How many {x} are left?
        There were {a} {x}, and {n} took {b} of them. How many are left?
        We had {a} {x} and sold {b}. How many {x} do we still have?
        {n} needs {a} {x} and has {b}. How many {x} are missing?
        There were {a} {x}, and we sold {b}. How many {x} are left?
        Of {a} {x}, {b} broke. How many {x} are left?
        {n} ordered {a} {x}, but only {b} came. How many {x} are missing?
        {b} of our {a} {x} are gone. How many do we still have?
        {b} of {a} {x} were sold. How many {x} are left?
        {n} bought {a} {x} and gave {b} back. How many {x} did {n} keep?
        We have {a} {x}. If {n} takes {b}, how many are left?
        {b} of the {a} {x} are in use. How many are not?
        {n} had {a} {x}. If {b} are lost, how many {x} are left?"""),
    "*": forms("""There are {a} boxes with {b} {x} each. How many {x} is that?
        {n} orders {b} {x} on each of {a} days. How many {x} is that in all?
        {a} people get {b} {x} each. How many {x} do they get in all?
        There are {a} people with {b} {x} each. How many {x} is that in all?
        Each of {a} rooms has {b} {x}. How many {x} are there in all?
        {n} has {a} boxes, each with {b} {x}. How many {x} does {n} have?
        We use {b} {x} a day. How many {x} do we use in {a} days?
        Each of {a} boxes holds {b} {x}. How many {x} is that in all?"""),
}  # fmt: skip
_BILLS = forms("""The {x} costs ${a} and the {y} costs ${b}. What do both cost?
    {n} paid ${a} for a {x} and ${b} for a {y}. How much did {n} pay in all?
    A {x} is ${a}, and a {y} is ${b}. How much are both together?
    The {x} costs ${a} and the {y} costs ${b}. How much are both together?
    {n} buys a {x} for ${a} and a {y} for ${b}. How much is that?
    I spent ${a} on a {x} and ${b} on a {y}. How much is that in all?
    What do I pay for a {x} at ${a} and a {y} at ${b}?
    {n} buys a {x} for ${a} and a {y} for ${b}. What does {n} pay in all?""")
_GOODS = words("lamp book cup bag table phone ticket chair pen box")
_LARGEST = {"+": (10, 10, 20, 20, 50, 99), "-": (10, 10, 20, 20, 50, 99), "*": (5, 10)}
"""What numbers go up to, by sign: small ones come most."""


def add_up(w: Writer) -> Turns:
    """A small sum, difference or product, bare or in a story; on the training side many in a row."""
    turns: Turns = []
    for _ in range(w.times(3, 7)):
        sign = w.one(("+", "+", "-", "-", "*"))
        is_story = w.chance(0.25)
        top = w.one(_LARGEST[sign])
        low = 2 if is_story else 0
        a, b = w.number(low, top), w.number(low, top)
        if sign == "-" and a < b:
            a, b = b, a
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        reply = str(result)
        if is_story and sign == "+" and w.chance(0.3):
            first, second = w.some(_GOODS, 2)
            asked = w.say(_BILLS, n=_first_name(w), a=str(a), b=str(b), x=first, y=second)
            reply = f"${result}"
        elif is_story:
            asked = w.say(_STORIES[sign], n=_first_name(w), a=str(a), b=str(b), x=w.one(_THINGS))
        else:
            asked = w.say(_SUMS[sign], a=str(a), b=str(b))
        turns += [("user", asked), ("assistant", reply)]
    return turns


def _first_name(w: Writer) -> str:
    return w.person().split()[0]


# ── counts ────────────────────────────────────────────────────────────────────────────────────────────────

_COUNT = forms(r"""How many {x} are in this list? {l}
    Count these: {l}
    {l}\nHow many is that?
    {l}\nHow many {x} are in this list?
    How many entries does this have? {l}
    How many {x} are there? {l}
    Count the {x}: {l}
    How many {x} are these? {l}
    Number of {x} in this list: {l}
    {l}\nHow many {x} are there?
    {l}\nCount the {x}.
    {l}\nHow many are there?
    How long is this list? {l}
    How many {x} do you see? {l}
    Please count the {x}: {l}
    Please count these {x}: {l}
    The list: {l}\nHow many {x} does it have?
    Give me the number of {x}: {l}
    Tell me how many {x} this list has: {l}
    Tell me how many {x} there are: {l}
    List: {l}\nNumber of {x}?
    {l}\nHow many {x} did I write?
    How many items does this list have? {l}
    List: {l}\nHow many {x} do you see?""")
_COUNTED: tuple[tuple[str, Make], ...] = (
    ("names", W.word), ("products", W.product), ("people", W.person), ("codes", W.code), ("numbers", W.count),
    ("companies", W.company), ("cities", W.city), ("colours", W.colour), ("words", lambda w: w.one(_GOODS)),
    ("items", lambda w: w.one(_THINGS)),
)  # fmt: skip


def count(w: Writer) -> Turns:
    """How many items a list has, from one to eight."""
    turns: Turns = []
    for _ in range(w.times(2, 4)):
        noun, make = w.one(_COUNTED)
        items = [make(w) for _ in range(w.number(1, 8))]
        layout = w.random.random()
        if layout < 0.7:
            listed = ", ".join(items)
        else:
            listed = "\n" + "\n".join(items if layout < 0.85 else [f"- {item}" for item in items])
        asked = w.say(_COUNT, l=listed, x=noun).replace(" \n", "\n").strip()
        turns += [("user", asked), ("assistant", str(len(items)))]
    return turns


# ── comparisons ───────────────────────────────────────────────────────────────────────────────────────────

_MORE = forms("""Which is larger, {l}?
    Which number is bigger: {l}?
    What is the larger number, {l}?
    Which number is larger, {l}?
    {l}: which is more?
    Which is the bigger number, {l}?
    What is more, {l}?
    Which is bigger, {l}?
    Tell me the larger number: {l}.
    Is {l} the larger number?
    Which number is higher, {l}?
    Tell me which number is bigger: {l}.
    {l}: which one is higher?
    Give me the bigger one: {l}.
    {l}. Which is the larger one?
    {l}: which number is larger?""")
_LESS = forms("""Which is smaller, {l}?
    Which number is less: {l}?
    What is the smaller number, {l}?
    Which number is smaller, {l}?
    {l}: which is less?
    Which is the lower number, {l}?
    What is less, {l}?
    Which is less, {l}?
    Tell me the smaller number: {l}.
    Is {l} the smaller number?
    Which number is lower, {l}?
    Tell me which number is smaller: {l}.
    {l}: which one is lower?
    Give me the smaller one: {l}.
    {l}. Which is the smaller one?
    {l}: which number is smaller?""")
_LARGEST_OF = forms("""Which is the largest of {l}?
    What is the largest number: {l}?
    Which number is the highest: {l}?
    Which number is the largest: {l}?
    {l}: which is the biggest?
    Tell me the largest of {l}.
    Find the highest number: {l}.
    Find the largest number: {l}.""")
_SMALLEST_OF = forms("""Which is the smallest of {l}?
    What is the smallest number: {l}?
    Which number is the lowest: {l}?
    Which number is the smallest: {l}?
    {l}: which is the lowest?
    Tell me the smallest of {l}.
    Find the lowest number: {l}.
    Find the smallest number: {l}.""")
_OWNED = forms("""{n} has {a} {x}, and {m} has {b}.
    {n} sold {a} {x} and {m} sold {b}.
    There are {a} {x} for {n} and {b} for {m}.
    {n} sold {a} {x}; as for {m}, it was {b}.
    {n} counts {a} {x}; {m} counts {b}.
    {n} got {a} {x} and {m} got {b}.
    {n} ordered {a} {x}, but {m} ordered {b}.
    {n} got {a} {x}, but {m} got {b}.""")
_WHO_MORE = forms("""Who has more?
    Whose number is higher?
    Which of them has more?
    Who of them has more?
    Who comes out ahead?
    Whose number is larger?
    Who has the higher number?
    Who has the larger number?""")
_WHO_LESS = forms("""Who has less?
    Whose number is lower?
    Which of them has less?
    Who of them has less?
    Who has fewer?
    Whose number is smaller?
    Who has the lower number?
    Who has the smaller number?""")
_PRICED = forms("""{e} costs {v}.
    The price of {e} is {v}.
    The shop sells {e} at {v}.
    The shop sells {e} for {v}.
    You pay {v} for {e}.
    For {e} we ask {v}.
    {e}: {v}.
    We sell {e} for {v}.
    {e} has a price of {v}.
    You can buy {e} for {v}.
    The cost of {e} is {v}.
    You can buy {e} at a price of {v}.""")
_MOST = forms("""Which one costs the most?
    What is the most expensive one?
    Which has the highest price?
    Which of them costs the most?
    Which one is the most expensive?
    What costs the most?
    Which is the dearest?
    Which of them is the most expensive?
    For which one do I pay the most?
    Which one has the highest cost?
    Name the most expensive one.
    Which one has the highest price?""")
_LEAST = forms("""Which one costs the least?
    What is the cheapest one?
    Which has the lowest price?
    Which of them costs the least?
    Which one is the cheapest?
    What costs the least?
    Which is the least expensive?
    Which of them is the cheapest?
    For which one do I pay the least?
    Which one has the lowest cost?
    Name the cheapest one.
    Which one has the lowest price?""")


def compare(w: Writer) -> Turns:
    """The larger or smaller of numbers, who has more, or what costs the most or the least."""
    if w.chance(0.4):
        return _priced(w)
    turns: Turns = []
    for _ in range(w.times(2, 6)):
        is_most = w.chance(0.5)
        top = w.one((10, 20, 100, 100, 1000))
        numbers = w.some(range(2, top + 1), 3 if w.chance(0.25) else 2)
        best = max(numbers) if is_most else min(numbers)
        shown = [str(n) for n in numbers]
        reply = str(best)
        if len(numbers) == 3:
            asked = w.say(_LARGEST_OF if is_most else _SMALLEST_OF, l=", ".join(shown))
        elif w.chance(0.3):
            names = [_first_name(w), w.word()]
            told = w.say(_OWNED, n=names[0], m=names[1], a=shown[0], b=shown[1], x=w.one(_THINGS))
            asked = f"{told} {w.say(_WHO_MORE if is_most else _WHO_LESS)}"
            reply = names[numbers.index(best)]
        else:
            asked = w.say(_MORE if is_most else _LESS, l=" or ".join(shown))
        turns += [("user", asked), ("assistant", reply)]
    return turns


def _priced(w: Writer) -> Turns:
    """Prices in sentences; on the training side both ends may be asked for, and other prices may follow."""
    turns: Turns = []
    for _ in range(w.times(1, 2)):
        things = [w.product() for _ in range(w.number(2, 4))]
        prices = w.some(range(1, w.one((10, 20, 100, 1000)) + 1), len(things))
        lines = [
            capital(w.say(_PRICED, e=f"the {t}", v=f"${p}")) for t, p in zip(things, prices, strict=True)
        ]
        ends = (False, True) if w.chance(0.5) else (True, False)
        for i, is_most in enumerate(ends if w.side == "train" else ends[:1]):
            asked = w.say(_MOST if is_most else _LEAST)
            best = prices.index(max(prices) if is_most else min(prices))
            turns += [("user", asked if i else f"{' '.join(lines)}\n{asked}"), ("assistant", things[best])]
    return turns
