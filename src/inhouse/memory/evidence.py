"""What speaks for a fact and against it, as numbers for the gate.

A question is read against the index: which known names stand in it, what it asks without them, which figures and
foreign names it holds. Every candidate fact gets one row of evidence, by its best wording. It decides nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from inhouse.memory.encoder import Floats, softmax
from inhouse.memory.famous import famous_places
from inhouse.memory.index import Entry, KeyIndex, Wording, masked
from inhouse.memory.kinds import STORED, stored_kind
from inhouse.memory.names import MASK, STARTERS, NameMatch, name_runs, rivals, tells_case
from inhouse.memory.phrases import FILLERS
from inhouse.memory.words import Word, listed, remembered, trigrams, words_of

TURNS = frozenset(
    listed(
        "not never no nobody nothing without except before previously previous former formerly anymore besides"
    )
)
"""Words that make another question of the same words."""
TELLING = 0.39
"""Weight of a word that tells what a question is about: see Vocabulary."""
SWAPPED, MISSED = 0.35, 0.6
"""The same where the wording has a word for it that tells even more, and the question lacks it."""
MOST_FOR_A_NAME = 64
"""Facts of one name that are looked at: the closest in meaning."""
MOST_NAMELESS = 8
SHARPNESS = 0.08
"""Of the distribution over relations."""
FEATURES = (
    "meaning",  # cosine of the question's key and the wording's
    "on_average",  # cosine of the question's key and the middle of all the fact's wordings
    "kinship",  # overlap of what the two ask among the relations that the router knows
    "fits",  # whether the stored answer looks like what the question wants
    "ahead",  # how much closer this relation is than any other that subjects of this kind have in the bank
    "chosen",  # the same as a share among all of them
    "margin",  # meaning, less the best other fact's that the same names lead to
    "bridge",  # the best known wording that is close to both
    "contrary",  # how much closer the question is to some other wording than that one is to this
    "coverage",  # share of the names that the wording needs and the question has
    "slips",  # what the names' spelling cost
    "rival_slips",  # how much worse the next best known name explains the same words
    "adjoining",  # name-like words and figures right beside a known name: another name that holds it
    "strange_names",  # name-like words that no known name explains
    "strange_words",  # words nobody knows, where capitals say nothing
    "other_names",  # known names in the question that the wording has not
    "figures",  # figures that only one of the two has
    "its_words",  # share of the wording's telling words that the question has
    "own_words",  # share of the question's telling words that the wording has
    "spelling",  # trigrams that the two share, names left out
    "nameless",  # the wording holds no name
    "longer",  # how much longer the question is, in powers of two
    "same",  # the very words of the wording
    "is_rich",  # the question holds a known name at all
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A question as the index sees it."""

    words: list[Word]
    matches: list[NameMatch]
    rivals: dict[str, float]
    """For a name that was not met exactly: how much worse the next best known name is."""
    adjoining: int
    strange: int
    strange_words: int
    numbers: tuple[str, ...]
    forms: tuple[tuple[str, ...], ...]
    """What it asks without names: with the foreign ones masked as well, and with only the known ones."""
    keys: Floats = field(repr=False)
    """[forms, KEY_WIDTH]"""

    @property
    def known(self) -> frozenset[str]:
        return frozenset(match.key for match in self.matches)


def read(index: KeyIndex, text: str, borrowed: Sequence[NameMatch] = ()) -> Reading:
    """A question read against the index. `borrowed` are names of an earlier turn that this one speaks of."""
    words = words_of(text)
    matches = index.names.find(words)
    taken = {i for match in matches for i in range(match.start, match.end)}
    runs = name_runs(words, index.vocabulary)
    foreign = [i for start, stop in runs for i in range(start, stop) if i not in taken]
    has_case = tells_case(words)
    known = famous_places(words) if foreign else set()
    strange = [i for i in foreign if i not in known]
    strong = [i for i in strange if has_case or words[i].has_digit]
    spans = [(match.start, match.end) for match in matches]
    rests = {match.end: match.rest for match in matches if match.rest}
    plain = masked(words, spans, rests)
    forms = [plain]
    if foreign:
        forms.append(masked(words, [*spans, *((i, i + 1) for i in foreign)], rests))
    inexact = [match for match in matches if match.cost > 0 or match.coverage < 1]
    near = index.names.near(words) if inexact else []
    lead = {}
    for match in inexact:
        costs = [_doubt(other) for other in rivals(match, near)]
        lead[match.key] = min(3.0, max(0.0, min(costs, default=9.0) - _doubt(match)))
    return Reading(
        words=words,
        matches=[*matches, *borrowed],
        rivals=lead,
        adjoining=_adjoining(
            words, matches, {*foreign, *(i for i, w in enumerate(words) if w.is_number)} - taken
        ),
        strange=len(strong),
        strange_words=len(strange) - len(strong),
        numbers=tuple(
            w.text for i, w in enumerate(words) if w.has_digit and i not in taken and i not in foreign
        ),
        forms=tuple(forms),
        keys=index.encoder.keys(forms),
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fact that may be meant, and what speaks for it."""

    entry: Entry
    features: list[float]

    is_same: bool = False
    """The question has the very words of the wording, and no name that the bank does not know stands in for one."""
    is_turned: bool = False
    """The question denies, or turns to a time or a person beside the one in the wording: "who was ... before"."""
    is_elsewhere: bool = False
    """Of a fact without a name: the question holds a telling word that the wording has not, or lacks one of its own.
    What such a fact is about stands in its words, and another word is most likely another matter."""

    @property
    def is_verbatim(self) -> bool:
        """Whether the question is a taught wording, word for word, and nothing besides: no gate is needed."""
        seen = dict(zip(FEATURES, self.features, strict=True))
        clean = ("slips", "adjoining", "strange_names", "strange_words", "other_names", "figures")
        return self.is_same and seen["coverage"] == 1 and not any(seen[name] for name in clean)


def _doubt(match: NameMatch) -> float:
    return match.cost + 4 * (1 - match.coverage)


def candidates(index: KeyIndex, reading: Reading, anchors: Floats) -> list[Candidate]:
    """Every fact that the names lead to, and the closest of those without names.

    anchors  [A, KEY_WIDTH]  keys of wordings from elsewhere, that help to tell what asks the same
    """
    if not len(index):
        return []
    near = (index.keys @ reading.keys.T).max(1)  # [U] how close the question is to each known wording
    named = _led_to(index, reading, near)
    plain = _closest_nameless(index, near)
    found: dict[str, tuple[Entry, int, float]] = {}
    for fact_id in dict.fromkeys([*named, *plain]):
        entry = index.entries[fact_id]
        best = max(
            range(len(entry.rows)),
            key=lambda i: float(near[entry.rows[i]]) + 0.6 * _coverage(index, entry.wordings[i], reading)[0],
        )
        found[fact_id] = (entry, best, float(near[entry.rows[best]]))
    if not found:
        return []
    rows = [entry.rows[best] for entry, best, _ in found.values()]
    to_anchors = anchors @ reading.keys.T  # [A, forms]
    to_question = np.concatenate([near, to_anchors.max(1)])  # [U + A]
    between = index.between(rows, anchors)  # [C, U + A]
    middles = [index.middle(entry.rows, anchors) for entry, _, _ in found.values()]
    on_average = (np.stack([middle for middle, _ in middles]) @ reading.keys.T).max(1).tolist()
    kinship = _kinship(np.stack([cosines for _, cosines in middles]), to_anchors.T).tolist()
    suits = index.encoder.fits(reading.keys).max(0).tolist()  # [STORED]
    bridge = np.minimum(between, to_question).max(1).tolist()
    contrary = (to_question - between).max(1).tolist()
    asked = Counter(entry.asked for entry, _, _ in found.values())
    best_of: dict[
        str, float
    ] = {}  # what is asked, or else what is answered → the most that one of its facts means
    mates = [
        entry.asked if asked[entry.asked] > 1 else entry.fact.answer for entry, _, _ in found.values()
    ]  # facts that coexist, or say the same, are no rivals
    for mate, (_, _, meaning) in zip(mates, found.values(), strict=True):
        best_of[mate] = max(meaning, best_of.get(mate, -1.0))
    first, second = (*sorted(best_of.values(), reverse=True), -0.2)[:2]
    out = []
    for i, (entry, best, meaning) in enumerate(found.values()):
        rival = second if best_of[mates[i]] == first else first
        fits = suits[STORED.index(stored_kind(entry.fact.answer))]
        ahead, chosen = _among_kin(index, entry, near)
        measured = (
            meaning,
            on_average[i],
            kinship[i],
            fits,
            ahead,
            chosen,
            meaning - rival,
            bridge[i],
            contrary[i],
        )
        evidence = _features(index, reading, entry.wordings[best], measured)
        wording = entry.wordings[best]
        is_turned = bool(TURNS & (set(reading.forms[0]) ^ set(wording.masked)))
        is_same = reading.forms[0] == wording.masked
        out.append(Candidate(entry, evidence, is_same, is_turned, _is_elsewhere(index, reading, wording)))
    return out


def _adjoining(words: Sequence[Word], matches: Sequence[NameMatch], loose: set[int]) -> int:
    """How many words right beside a known name belong to it by their looks, and not by what is known."""
    found = 0
    for match in matches:
        for i in (match.start - 1, match.end):
            if 0 <= i < len(words) and (
                i in loose or (len(words[i].text) == 1 and words[i].text not in "ais")
            ):
                found += 1
    return found


def _among_kin(index: KeyIndex, entry: Entry, near: Floats) -> tuple[float, float]:
    """How the fact's relation stands among all that subjects of its kind have: its lead, and its share."""
    kin = index.kin
    relation = kin.relation_of[entry.rows[0]]
    own = float(near[list(kin.rows_of[relation])].max())
    others = [float(near[list(kin.rows_of[other])].max()) for other in kin.beside.get(relation, ())]
    if not others:
        return 0.0, 0.5
    total = sum(math.exp((other - own) / SHARPNESS) for other in others)
    return own - max(others), 1 / (1 + total)


def _kinship(facts: Floats, asked: Floats) -> Floats:
    """Bhattacharyya's coefficient of the relations that each fact may be of, and the question: from the closeness of
    each to the anchors, [C, A] and [forms, A] → [C]."""
    one, other = softmax(facts / SHARPNESS), softmax(asked / SHARPNESS)
    return np.asarray((np.sqrt(one) @ np.sqrt(other).T).max(1), np.float32)


def _features(
    index: KeyIndex, reading: Reading, wording: Wording, measured: tuple[float, ...]
) -> list[float]:
    """`measured`: meaning, on_average, kinship, fits, ahead, chosen, margin, bridge, contrary."""
    meaning, on_average, kinship, fits, ahead, chosen, margin, bridge, contrary = measured
    coverage, slips, rival = _coverage(index, wording, reading)
    own = {key for keys in wording.names for key in keys}
    other = sum(1 for key in reading.known - own if not index.is_ambient(key))
    need = any(not all(index.is_ambient(k) for k in keys) for keys in wording.names)
    asked, told = set(reading.numbers), set(wording.numbers)
    shared = _shared_spelling(reading.forms[-1], wording.masked)
    its_words = _said(index, wording.masked, reading.forms[0])
    own_words = _said(index, reading.forms[0], wording.masked)
    longer = math.log2((len(reading.words) + 1) / (len(wording.masked) + 1))
    return [
        meaning,
        on_average,
        kinship,
        fits,
        max(-0.7, min(0.7, ahead)),
        chosen,
        max(-0.5, min(1.2, margin)),
        bridge,
        contrary,
        coverage,
        slips,
        rival,
        float(min(reading.adjoining, 2)),
        float(min(reading.strange, 4)),
        float(min(reading.strange_words, 4)),
        float(min(other, 3)),
        float(min(len(asked ^ told), 3)),
        its_words,
        own_words,
        shared,
        0.0 if need else 1.0,
        max(-2.0, min(3.0, longer)),
        1.0 if wording.masked in reading.forms else 0.0,
        1.0 if reading.matches else 0.0,
    ]


def _coverage(index: KeyIndex, wording: Wording, reading: Reading) -> tuple[float, float, float]:
    """How much of the needed names is there, what its spelling cost, and by how much the next name is worse."""
    coverage, slips, rival = 1.0, 0.0, 3.0
    for keys in wording.names:
        met = [match for match in reading.matches if match.key in keys]
        if met:
            best = max(met, key=lambda m: (m.coverage, -m.cost))
            coverage = min(coverage, best.coverage)
            slips += best.cost
            rival = min(rival, reading.rivals.get(best.key, 3.0))
        elif not any(index.is_ambient(key) for key in keys):
            coverage = 0.0
    return coverage, slips, rival


def _led_to(index: KeyIndex, reading: Reading, near: Floats) -> list[str]:
    found: dict[str, None] = {}
    for match in reading.matches:
        if index.is_ambient(match.key):
            continue
        ids = list(index.by_name.get(match.key, ()))
        if len(ids) > MOST_FOR_A_NAME:
            ids.sort(key=lambda i: -max(float(near[row]) for row in index.entries[i].rows))
            ids = ids[:MOST_FOR_A_NAME]
        found.update(dict.fromkeys(sorted(ids)))
    return list(found)


def _closest_nameless(index: KeyIndex, near: Floats) -> list[str]:
    """The facts that need no name, by meaning."""
    found: dict[str, None] = {}
    rows = index.kin.free_rows
    for row in rows[np.argsort(-near[rows], kind="stable")[: 2 * MOST_NAMELESS]].tolist():
        found.update(dict.fromkeys(index.kin.free[row][:MOST_FOR_A_NAME]))
        if len(found) >= MOST_NAMELESS:
            break
    return list(found)


def _shared_spelling(one: Sequence[str], other: Sequence[str]) -> float:
    """Cosine of the trigrams of what is said besides names and small words."""
    a = {t for word in one if word not in STARTERS and len(word) > 2 for t in trigrams(word)}
    b = {t for word in other if word not in STARTERS and len(word) > 2 for t in trigrams(word)}
    return len(a & b) / math.sqrt(len(a) * len(b)) if a and b else 0.0


def _is_elsewhere(index: KeyIndex, reading: Reading, wording: Wording) -> bool:
    """Whether a wording without a needed name and a question tell of different things, by their telling words."""
    if any(not all(index.is_ambient(key) for key in keys) for keys in wording.names):
        return False
    ours, theirs = reading.forms[0], wording.masked
    added = _most_telling(index, ours, theirs)
    return added >= TELLING or (added >= SWAPPED and _most_telling(index, theirs, ours) >= MISSED)


def _most_telling(index: KeyIndex, one: Sequence[str], other: Sequence[str]) -> float:
    """The weight of the most telling word that one side has and the other lacks."""
    return max(
        (
            index.vocabulary.weight(word)
            for word in one
            if word != MASK and word not in FILLERS and not any(_alike(word, w) for w in other)
        ),
        default=0.0,
    )


def _said(index: KeyIndex, wanted: Sequence[str], there: Sequence[str]) -> float:
    """How much of what one side tells the other says too, word by word; rare words tell more."""
    total = met = 0.0
    for word in wanted:
        weight = index.vocabulary.weight(word)
        if weight > 0 and word != MASK:
            total += weight
            met += weight * max((_alike(word, other) for other in there), default=0.0)
    return met / total if total else 1.0


@remembered(262_144)
def _alike(one: str, other: str) -> float:
    """Whether two words are one but for its form or a slip, 0 to 1."""
    if one == other:
        return 1.0
    if one == MASK or other == MASK or one[:1] != other[:1]:
        return 0.0
    a, b = trigrams(one), trigrams(other)
    share = len(a & b) / math.sqrt(len(a) * len(b))
    return share if share >= 0.4 else 0.0
