"""Proper names that everybody knows: countries, cities, works, people, languages. A question with one of these is
about the world rather than about a company's data, unless a fact says otherwise. Data only.
"""

from __future__ import annotations

from inhouse.memory.words import fold, listed

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
