"""Questions as points: those that ask the same lie close together, whoever they ask about.

A word is the mean of the frozen base's embeddings of its pieces, projected, plus what its spelling adds
(hashed trigrams), so that a slip or an unknown form still lands near. Four pooling heads pick the words that count.
Two such readers, which differ by the chance they began with, read each question; where one errs the other seldom does.
Names come as one mask: whom a question is about is told by spelling, elsewhere. It is trained with torch (`pooled`)
and asked with numpy (`Encoder`), whose small products cost microseconds and need no second thread; a test holds the
two together. It knows words and embeddings; it knows no bank.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from inhouse.memory.kinds import FITS, WANTED
from inhouse.memory.names import MASK
from inhouse.memory.words import trigrams

MEMBERS = 2
"""Readers whose keys stand side by side: a cosine is the mean of theirs."""
WIDTH = 224
MEMBER_KEY = 192
KEY_WIDTH = MEMBERS * MEMBER_KEY
HEADS = 4
BUCKETS = 4096
"""Hashed trigrams."""
MOST_WORDS = 48
"""Longer questions are cut: what they ask stands in fewer words."""
MOST_CACHED = 200_000
WANTED_SCALE = 8.0
"""Keys have length 1: log-odds need more."""

Tensors = dict[str, Tensor]
Floats = NDArray[np.float32]


def fresh(base_width: int, seed: int) -> Tensors:
    """An untrained encoder's tensors, a pure function of the seed."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    return {
        "mask": normal(MEMBERS * WIDTH, scale=0.3),
        "project": normal(MEMBERS * WIDTH, base_width, scale=base_width**-0.5),
        "spelling": normal(BUCKETS, MEMBERS * WIDTH, scale=0.05),
        "query": normal(MEMBERS, HEADS, WIDTH, scale=WIDTH**-0.5),
        "wants": normal(MEMBERS, len(WANTED), MEMBER_KEY, scale=0.5),
        "out": normal(MEMBERS, MEMBER_KEY, HEADS * WIDTH, scale=(HEADS * WIDTH) ** -0.5),
    }


class WordTable:
    """A word's two ingredients: the base's embedding of it, and the places of its trigrams. Remembers words."""

    def __init__(self, embedding: Tensor, encode: Callable[[str], list[int]]) -> None:
        """embedding [V, D], the base's own, on any device; encode turns text into ids without special ones."""
        self._embedding = embedding
        self._encode = encode
        sample = embedding[:: max(1, len(embedding) // 512)].float()
        self._scale = float(1.0 / sample.pow(2).mean().sqrt().clamp(min=1e-6))
        self._known: dict[str, tuple[Tensor, list[int]]] = {}

    @property
    def width(self) -> int:
        return int(self._embedding.shape[1])

    def of(self, word: str) -> tuple[Tensor, list[int]]:
        """[D] float32 on the CPU, and the buckets of its trigrams."""
        found = self._known.get(word)
        if found is None:
            if len(self._known) >= MOST_CACHED:
                self._known.clear()
            ids = self._encode(" " + word) or [0]
            rows = self._embedding[torch.tensor(ids, device=self._embedding.device)]
            mean = rows.float().mean(0).cpu() * self._scale
            places = [zlib.crc32(t.encode()) % BUCKETS for t in sorted(trigrams(word))]
            found = self._known[word] = (mean, places)
        return found

    def forget(self) -> None:
        """Drops every remembered word."""
        self._known = {}


class Encoder:
    """The trained tensors over one base's words. Safe to use from several threads."""

    def __init__(self, tensors: Tensors, words: WordTable) -> None:
        self.tensors = tensors
        self.words = words
        self._plain: dict[str, Any] = {n: t.detach().float().numpy() for n, t in tensors.items()}
        self._points: dict[str, Floats] = {MASK: self._plain["mask"]}

    def keys(self, questions: Sequence[Sequence[str]]) -> Floats:
        """Words of each question, names as MASK → [N, KEY_WIDTH] of length 1."""
        out = np.zeros((len(questions), KEY_WIDTH), np.float32)
        for i, words in enumerate(questions):
            out[i] = self._key(words[:MOST_WORDS] or (MASK,))
        return out

    def fits(self, keys: Floats) -> Floats:
        """How well each kind of answer may be what is asked for: keys [N, KEY_WIDTH] → [N, STORED], 0 to 1."""
        odds = sum(
            WANTED_SCALE * part @ wants.T
            for part, wants in zip(parted(keys), self._plain["wants"], strict=True)
        )
        return softmax(np.asarray(odds / MEMBERS, np.float32)) @ _FITS

    def forget(self) -> None:
        """Drops every remembered word: some may be a forgotten fact's."""
        self.words.forget()
        self._points = {MASK: self._plain["mask"]}

    def _key(self, words: Sequence[str]) -> Floats:
        rows = np.stack([self._point(word) for word in words])  # [W, MEMBERS * WIDTH]
        x = rows.reshape(len(rows), MEMBERS, WIDTH).transpose(1, 0, 2)  # [MEMBERS, W, WIDTH]
        heads = softmax(self._plain["query"] @ x.transpose(0, 2, 1)) @ x  # [MEMBERS, HEADS, WIDTH]
        keys = (self._plain["out"] @ heads.reshape(MEMBERS, -1, 1))[..., 0]  # [MEMBERS, MEMBER_KEY]
        lengths = np.sqrt((keys * keys).sum(1, keepdims=True))
        return np.asarray((keys / np.maximum(lengths, 1e-12)).reshape(-1) / MEMBERS**0.5, np.float32)

    def _point(self, word: str) -> Floats:
        point = self._points.get(word)
        if point is None:
            if len(self._points) >= MOST_CACHED:
                self._points = {MASK: self._plain["mask"]}
            mean, places = self.words.of(word)
            plain = torch.from_numpy(self._plain["project"] @ mean.numpy())
            point = self._points[word] = F.gelu(plain).numpy() + self._plain["spelling"][places].mean(0)
        return point


_FITS = np.array(FITS, np.float32)


def parted(keys: Floats) -> Floats:
    """[N, KEY_WIDTH] → [MEMBERS, N, MEMBER_KEY], each of length 1: what each reader says."""
    return keys.reshape(len(keys), MEMBERS, MEMBER_KEY).transpose(1, 0, 2) * np.float32(MEMBERS**0.5)


def softmax(odds: Floats) -> Floats:
    """Over the last dimension."""
    e = np.exp(odds - odds.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True), np.float32)


# ── training ──────────────────────────────────────────────────────────────────────────────────────────────


def points(tensors: Tensors, table: WordTable, questions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """The questions' words as they enter the pooling, with gradients: [N, W, MEMBERS * WIDTH], and which are there."""
    place: dict[str, int] = {}
    ids = [[place.setdefault(word, len(place)) for word in words[:MOST_WORDS]] for words in questions]
    plain = [word for word in place if word != MASK]
    order = {word: i for i, word in enumerate(plain)} | {MASK: len(plain)}
    known = [table.of(word) for word in plain]
    means = torch.stack([mean for mean, _ in known])  # [U, D]
    bags = F.embedding_bag(
        torch.tensor([p for _, places in known for p in places]),
        tensors["spelling"],
        torch.tensor([0, *(len(places) for _, places in known)][:-1]).cumsum(0),
        mode="mean",
    )
    rows = torch.cat(
        [F.gelu(means @ tensors["project"].T) + bags, tensors["mask"][None]]
    )  # [U + 1, MEMBERS * WIDTH]
    lengths = torch.tensor([len(row) for row in ids])
    longest = int(lengths.max())
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    x = rows[torch.tensor([order[word] for word in place])[padded]]
    return x, torch.arange(longest) < lengths[:, None]


def pooled(tensors: Tensors, x: Tensor, there: Tensor) -> Tensor:
    """x [N, W, MEMBERS * WIDTH], there [N, W] → [MEMBERS, N, MEMBER_KEY], each of length 1."""
    parts = x.unflatten(-1, (MEMBERS, WIDTH))  # [N, W, MEMBERS, WIDTH]
    score = torch.einsum("nwmd,mhd->nmhw", parts, tensors["query"])
    score = score.masked_fill(~there[:, None, None], float("-inf"))
    heads = torch.einsum("nmhw,nwmd->mnhd", score.softmax(-1), parts)  # [MEMBERS, N, HEADS, WIDTH]
    return F.normalize(heads.flatten(2) @ tensors["out"].transpose(1, 2), dim=-1)


def wanted(tensors: Tensors, keys: Tensor) -> Tensor:
    """What kind of answer a question wants: keys [MEMBERS, N, MEMBER_KEY] → [MEMBERS, N, WANTED] log-odds."""
    return WANTED_SCALE * keys @ tensors["wants"].transpose(1, 2)
