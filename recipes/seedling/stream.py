"""The training stream: plain text and conversations as token examples, a pure function of (seed, step).

Text leads at first and gives way to conversations: language comes before manners. Text is tokenised once into a
cache; conversations are made as they are needed and never repeat. It knows nothing of gradients.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inhouse.data.examples import Example
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from recipes.seedling import drills
from recipes.seedling.corpus import documents
from recipes.seedling.tokenizer import CONTEXT, END, SPECIAL
from recipes.seedling.world import World
from recipes.seedling.writer import Writer

PIECE_TOKENS = 255
"""Longest piece of a document in one example: attention over short ones costs little."""
LONG_PIECES = 4
"""Pieces in one example once the run comes to long ones."""
SHORTEST, SHORT = 64, 320
"""Most tokens of a conversation at first, and when nearly every one is short enough."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a step is made of, by how far the run has come (0 to 1); both shares change in a straight line."""

    text_first: float = 0.5
    text_last: float = 0.15
    """Share of plain text among a step's tokens."""
    drills_first: float = 0.0
    drills_until: float = 0.1
    """Share of drills at first; it falls in a straight line to none at `drills_until`."""
    short_until: float = 0.0
    """Up to here conversations are short: SHORTEST tokens at most at first, as many as fit at this point."""
    long_from: float = 1.0
    """From here text comes in examples of LONG_PIECES pieces, so that far places are learned, too."""
    whole_until: float = 0.0
    """Up to here some conversations are trained whole, prompts too: all at first, none at this point. Prompts
    cost their forward pass anyway, and a question that repeats the passage's names teaches copying."""

    def text_share(self, progress: float) -> float:
        return self.text_first + (self.text_last - self.text_first) * progress

    def drill_share(self, progress: float) -> float:
        left = 1 - progress / self.drills_until if self.drills_until else 0.0
        return self.drills_first * max(0.0, left)

    def longest(self, progress: float) -> int:
        grown = progress / self.short_until if self.short_until else 1.0
        return CONTEXT if grown >= 1 else round(SHORTEST + (SHORT - SHORTEST) * grown)

    def whole_share(self, progress: float) -> float:
        return max(0.0, 1 - progress / self.whole_until) if self.whole_until else 0.0


class Pieces:
    """A corpus as pieces of tokens, each document's last one closed by the end token."""

    def __init__(self, tokens: np.ndarray, ends: np.ndarray) -> None:
        self._tokens = tokens
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Example:
        return self.join(index, 1)

    def join(self, index: int, count: int) -> Example:
        """The pieces from `index` on as one example, up to the last piece there is."""
        start = int(self._ends[index - 1]) if index else 0
        ids = tuple(self._tokens[start : int(self._ends[min(index + count, len(self)) - 1])].tolist())
        return Example(ids, (True,) * len(ids))

    @property
    def mean_tokens(self) -> float:
        return len(self._tokens) / len(self)


def pieces(corpus: Path, tokenizer: Tokenizer, *, held_out: bool, cache: Path | None = None) -> Pieces:
    """One side of a corpus in pieces, from the cache folder when it holds this corpus under this tokenizer."""
    side = "held-out" if held_out else "train"
    key = hashlib.sha256(
        corpus.read_bytes() + repr([tokenizer.token_text(i) for i in range(tokenizer.vocab_size)]).encode()
    )
    file = None if cache is None else cache / f"{side}-{key.hexdigest()[:16]}.npz"
    if file is not None and file.is_file():
        with np.load(file) as stored:
            return Pieces(stored["tokens"], stored["ends"])
    end = tokenizer.token_id(END)
    assert end is not None and tokenizer.vocab_size <= 2**16, "the cache keeps ids in 16 bits"
    tokens: list[np.ndarray] = []
    ends: list[int] = []
    total = 0
    for document in documents(corpus):
        if document.is_held_out != held_out:
            continue
        ids = [*tokenizer.encode(document.text, special=False), end]
        tokens.append(np.array(ids, dtype=np.uint16))
        ends += range(total + PIECE_TOKENS, total + len(ids), PIECE_TOKENS)
        total += len(ids)
        ends.append(total)
    if not tokens:
        raise ValueError(
            f"{corpus} has no document for the {side} side: a hash of each document's source decides, so many "
            "documents need many sources."
        )
    made = Pieces(np.concatenate(tokens), np.array(ends, dtype=np.int64))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part.npz")
        np.savez(part, tokens=made._tokens, ends=made._ends)
        part.replace(file)
    return made


class Stream:
    """What the loop trains on: `at(step)` gives about `step_tokens` tokens of examples."""

    def __init__(
        self,
        text: Pieces,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        steps: int,
        step_tokens: int,
        seed: int,
        mixture: Mixture | None = None,
        is_later: bool = False,
    ) -> None:
        self.steps = steps
        self._text = text
        self._tokenizer = tokenizer
        self._template = template
        self._step_tokens = step_tokens
        self._seed = seed
        self._world = World("train", is_later=is_later)
        self._writer = Writer("train")
        self._mixture = mixture or Mixture()
        shares = [self._mixture.text_share(self._progress(step)) for step in range(steps)]
        sizes = [self._pieces_each(step) * text.mean_tokens for step in range(steps)]
        counts = [round(share * step_tokens / size) for share, size in zip(shares, sizes, strict=True)]
        self._first = np.concatenate([[0], np.cumsum(counts)])
        """Examples of text that the steps before each step have read."""
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def at(self, step: int) -> list[Example]:
        """The examples of a step, text and conversations mixed."""
        source = random.Random((self._seed << 32) + step)
        each = self._pieces_each(step)
        places = [self._piece(i) for i in range(self._first[step], self._first[step + 1])]
        examples = [self._text.join(place, each) for place in places]
        room = self._step_tokens - sum(len(e.ids) for e in examples)
        progress = self._progress(step)
        drills = self._mixture.drill_share(progress) * self._step_tokens
        while drills > 0:
            examples.append(self._drill(source))
            drills -= len(examples[-1].ids)
            room -= len(examples[-1].ids)
        whole_share, longest = self._mixture.whole_share(progress), self._mixture.longest(progress)
        while room > 0:
            example = conversation(self._world, self._template, source, longest)
            if source.random() < whole_share:
                example = Example(example.ids, (True,) * len(example.ids))
            examples.append(example)
            room -= len(example.ids)
        source.shuffle(examples)
        return examples

    def _drill(self, source: random.Random) -> Example:
        if source.random() < 0.5:
            return drills.echo(source, range(len(SPECIAL), self._tokenizer.vocab_size))
        return drills.lookup(self._writer, self._tokenizer, source)

    def _progress(self, step: int) -> float:
        return step / max(1, self.steps - 1)

    def _pieces_each(self, step: int) -> int:
        return LONG_PIECES if self._progress(step) >= self._mixture.long_from else 1

    def _piece(self, number: int) -> int:
        """The piece that comes as the stream's `number`-th: every piece once in each round, in a new order."""
        round_, place = divmod(int(number), len(self._text))
        if self._order[0] != round_:
            self._order = (round_, np.random.default_rng([self._seed, round_]).permutation(len(self._text)))
        return int(self._order[1][place])


def conversation(
    world: World, template: ChatTemplate, source: random.Random, longest: int = CONTEXT
) -> Example:
    """The next conversation of at most `longest` tokens as an example: only its replies are trained."""
    while True:
        ids, trained = template.example(world.next(source).messages)
        if len(ids) <= longest:
            return Example(tuple(ids), tuple(trained))
