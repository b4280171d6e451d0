"""Proper names that everybody knows: countries, cities, works, people, languages. A question with one of these is
about the world rather than about a company's data, unless a fact says otherwise. It knows a list, and no bank.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from inhouse.memory.phrases import famous
from inhouse.memory.words import Word, fold, listed, words_of


def famous_places(words: Sequence[Word]) -> set[int]:
    """Which of the words stand for something that everybody knows."""
    found: set[int] = set()
    for i, word in enumerate(words):
        if word.text in FAMOUS or word.text in _alone():
            found.add(i)
        for name in _longer().get(word.text, ()):
            if tuple(w.text for w in words[i : i + len(name)]) == name:
                found |= set(range(i, i + len(name)))
    return found


@cache
def _alone() -> frozenset[str]:
    """Names of one word. A surname alone may be anybody's."""
    return frozenset(name[0] for name in _names() if len(name) == 1)


@cache
def _longer() -> dict[str, list[tuple[str, ...]]]:
    """Names of several words, by the first."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for name in _names():
        if len(name) > 1:
            found.setdefault(name[0], []).append(name)
    return found


@cache
def _names() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(word.text for word in words_of(name)) for name in famous())


FAMOUS = frozenset(
    fold(name)
    for name in listed(
        """
    Afghanistan Albania Algeria Argentina Australia Austria Bangladesh Belgium Bolivia Brazil Britain Bulgaria
    Cambodia Canada Chile China Colombia Croatia Cuba Cyprus Czechia Denmark Ecuador Egypt England Estonia
    Ethiopia Finland France Georgia Germany Ghana Greece Hungary Iceland India Indonesia Iran Iraq Ireland
    Israel Italy Jamaica Japan Jordan Kenya Korea Kuwait Latvia Lebanon Libya Lithuania Luxembourg Malaysia
    Malta Mexico Mongolia Morocco Nepal Netherlands Nigeria Norway Pakistan Panama Paraguay Peru Philippines
    Poland Portugal Qatar Romania Russia Scotland Serbia Singapore Slovakia Slovenia Somalia Spain Sudan Sweden
    Switzerland Syria Taiwan Tanzania Thailand Tunisia Turkey Uganda Ukraine Uruguay Venezuela Vietnam Wales
    Yemen Zimbabwe America Africa Asia Europe Antarctica Arctic Atlantic Pacific Mediterranean Baltic Sahara
    Amazon Nile Danube Rhine Thames Mississippi Himalayas Alps Andes Everest Kilimanjaro Amsterdam Athens
    Baghdad Bangkok Barcelona Beijing Berlin Bern Brussels Budapest Cairo Chicago Copenhagen Delhi Dublin
    Edinburgh Florence Geneva Hamburg Helsinki Istanbul Jerusalem Kyiv Lisbon London Madrid Manila Melbourne
    Milan Montreal Moscow Mumbai Munich Nairobi Naples Oslo Ottawa Paris Prague Rome Seoul Shanghai Stockholm
    Sydney Tokyo Toronto Venice Vienna Warsaw Washington Zurich York Angeles Francisco Aires Janeiro California
    Texas Florida Hawaii Alaska Kingdom States Union Republic English French German Spanish Italian Portuguese
    Dutch Polish Russian Chinese Japanese Arabic Hindi Korean Turkish Swedish Danish Latin Greek Mercury Venus
    Earth Mars Jupiter Saturn Uranus Neptune Pluto Moon Sun Milky Way Shakespeare Hamlet Macbeth Romeo Juliet
    Homer Odyssey Iliad Dante Goethe Faust Cervantes Quixote Tolstoy Dostoevsky Dickens Austen Hemingway Orwell
    Kafka Verne Twain Tolkien Hobbit Potter Sherlock Holmes Dracula Frankenstein Pinocchio Cinderella Bible
    Koran Mozart Beethoven Bach Chopin Vivaldi Verdi Wagner Beatles Michelangelo Picasso Rembrandt Leonardo
    Vinci Mona Lisa Monet Gogh Einstein Newton Darwin Galileo Curie Edison Tesla Pasteur Copernicus Kepler
    Archimedes Aristotle Plato Socrates Pythagoras Freud Columbus Magellan Napoleon Caesar Cleopatra Alexander
    Lincoln Gandhi Mandela Churchill Victoria Armstrong Titanic Apollo Eiffel Colosseum Parthenon Kremlin
    Vatican Pyramid Olympics Olympic Nobel Renaissance Christmas Easter Ramadan Halloween World War Second First
    Roman Empire Middle Ages Revolution Depression Python Java JavaScript TypeScript Rust Ruby Perl Fortran
    Cobol Haskell Swift Kotlin Linux Unix Windows Git Bash Excel Word Wikipedia Internet Bluetooth Ethernet
    Unicode HTTP HTTPS DNA RNA NASA NATO UNESCO UNICEF DNS TCP UDP CPU RAM GPU USB LED LCD SMS WiFi God Jesus
    Buddha Zeus Santa Claus Adam Eve Noah Moses
        """
    )
)
"""Folded, word by word."""
