"""Choices among words: the one that belongs to a group, that stands at a place, that does not fit; a word's group."""

from __future__ import annotations

from recipes.seedling.reading import Turns
from recipes.seedling.writer import Writer, forms, words

_GROUPS: dict[str, tuple[str, ...]] = {
    "colour": words("red blue green yellow purple black white grey brown pink"),
    "animal": words("dog cat horse cow sheep goat pig hen duck fox bear wolf mouse lion tiger rabbit monkey elephant"),
    "fruit": words("apple pear plum cherry grape lemon banana melon strawberry fig"),
    "vegetable": words("carrot onion potato cabbage spinach cucumber turnip leek pumpkin celery"),
    "tool": words("hammer saw drill pliers wrench chisel screwdriver axe shovel rake"),
    "vehicle": words("car bus train bicycle truck ship boat tram van motorcycle"),
    "piece of furniture": words("chair table bed sofa desk cupboard bench stool wardrobe bookcase"),
    "drink": words("water tea coffee milk juice beer wine lemonade cocoa"),
    "piece of clothing": words("shirt coat hat shoe sock glove scarf dress jacket belt"),
    "weekday": words("Monday Tuesday Wednesday Thursday Friday"),
    "month": words("January April June July August September October November December"),
    "part of the body": words("arm leg hand foot nose ear eye knee shoulder elbow"),
    "metal": words("iron steel tin lead zinc nickel aluminium brass"),
    "country": words("France Germany Spain Italy Japan India Egypt Canada Mexico Brazil Norway Kenya"),
    "job": words("baker doctor teacher farmer pilot sailor tailor nurse judge plumber"),
    "season": words("spring summer autumn winter"),
    "sport": words("football tennis hockey golf swimming rowing boxing volleyball"),
    "musical instrument": words("piano guitar violin flute trumpet harp drum cello"),
    "building": words("house school church hospital factory castle barn museum library"),
    "number": words("one two three four six seven eight nine ten twelve"),
}  # fmt: skip
_WITH_AN = frozenset({"animal"})
_CHOOSE = forms("""Which of these is {g}: {l}?
    Pick {g}: {l}.
    One of these is {g}. Which? {l}
    Which one of these is {g}? {l}
    Find {g}: {l}.
    {l}: which one is {g}?
    Which word is {g}: {l}?
    {l}. Which of these is {g}?
    Choose {g} from this list: {l}.
    Only one of {l} is {g}. Which one?
    {l}. Find {g}.
    Find the word for {g}: {l}.
    Tell me which of {l} is {g}.
    In the list {l}, which word is {g}?
    Take {g} from these: {l}.
    Tell me which word is {g}: {l}.""")
_ODD = forms("""Which one does not belong: {l}?
    Which word does not fit? {l}
    {l}: which one is not like the others?
    Which word does not belong? {l}
    One of these does not fit: {l}. Which one?
    Find the one that does not belong: {l}.
    Which of these is not like the others? {l}
    {l}: which one does not fit?
    Which one is different: {l}?
    {l}. Which is the odd one out?
    Name the odd one out: {l}.
    Find the word that does not fit: {l}.""")
_KIND = forms("""Is {w} {g} or {h}?
    What is {w}: {g} or {h}?
    {w}: is it {g} or {h}?
    Is it {g} or {h}? {w}
    Which is right for {w}, {g} or {h}?
    {w}: {g} or {h}?
    Tell me if {w} is {g} or {h}.
    Would you say {w} is {g} or {h}?""")
_PLACE = forms(r"""What is the {o} item of this list? {l}
    Give me the {o} entry: {l}
    Which item is the {o}? {l}
    Give me the {o} item of this list: {l}
    Take the {o} of these: {l}
    {l}\nWhich is the {o}?
    What comes {o} in this list? {l}
    {l}\nWhat is the {o} item?
    The {o} one of these, please: {l}
    Name the {o} item. {l}
    Which one stands {o} in the list? {l}
    Which item comes {o}? {l}""")
_ORDINALS = ("first", "second", "third", "last")


def choose(w: Writer) -> Turns:
    """A word of a list, or a word's group; on the training side several such questions."""
    turns: Turns = []
    for _ in range(w.times(2, 5)):
        kind = w.random.random()
        task = _member if kind < 0.45 else _odd if kind < 0.6 else _group if kind < 0.75 else _placed
        asked, reply = task(w)
        turns += [("user", asked), ("assistant", reply)]
    return turns


def _a(group: str) -> str:
    return f"{'an' if group in _WITH_AN else 'a'} {group}"


def _member(w: Writer) -> tuple[str, str]:
    groups = w.some(tuple(_GROUPS), w.number(2, 5))
    words = [w.one(_GROUPS[g]) for g in groups]
    return w.say(_CHOOSE, g=_a(groups[0]), l=", ".join(w.shuffled(words))), words[0]


def _odd(w: Writer) -> tuple[str, str]:
    group, other = w.some(tuple(_GROUPS), 2)
    odd = w.one(_GROUPS[other])
    listed = [odd, *w.some(_GROUPS[group], w.number(3, min(4, len(_GROUPS[group]))))]
    return w.say(_ODD, l=", ".join(w.shuffled(listed))), odd


def _group(w: Writer) -> tuple[str, str]:
    group, other = w.some(tuple(_GROUPS), 2)
    first, second = w.shuffled([group, other])
    return w.say(_KIND, w=w.one(_GROUPS[group]), g=_a(first), h=_a(second)), group


def _placed(w: Writer) -> tuple[str, str]:
    make = w.one((Writer.word, Writer.product, Writer.person, Writer.city, Writer.code, Writer.count))
    items = [make(w) for _ in range(w.number(3, 6))]
    place = w.number(0, 3)
    asked = w.say(_PLACE, o=_ORDINALS[place], l=", ".join(items))
    return asked, items[-1 if place == 3 else place]
