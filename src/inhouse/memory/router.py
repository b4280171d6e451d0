"""A base's router: the trained encoder and gate, and the wordings it knows from elsewhere.

It is made once per base (`memory.learn`) and kept as one safetensors file, bound to the base by its digest. It
knows tensors and files; what a bank holds is `memory.index`, what follows from a question is `memory.routing`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from inhouse.errors import BadCheckpoint
from inhouse.memory.encoder import Encoder, Floats, Tensors, WordTable
from inhouse.memory.evidence import FEATURES
from inhouse.memory.index import KeyIndex
from inhouse.memory.names import Vocabulary
from inhouse.memory.phrases import vocabulary
from inhouse.model.weights import write_tensors

FORM = 3
"""Changes when old files can no longer be read."""


@dataclass(frozen=True, slots=True)
class Router:
    """What every bank on one base shares."""

    encoder: Encoder
    gate: Tensors
    anchors: Floats
    """[A, KEY_WIDTH] keys of wordings from the lexicon."""
    high: float
    """From this probability on a fact's stored answer is given as it is."""
    low: float
    """Below it the question is for no fact."""
    about: dict[str, Any] = field(default_factory=dict)
    """How it was trained: seconds, curve, what it reached on relations held out."""

    @property
    def vocabulary(self) -> Vocabulary:
        return vocabulary()

    def index(self) -> KeyIndex:
        """An empty index."""
        return KeyIndex(self.encoder, self.vocabulary)

    def write(self, file: Path, base_digest: str) -> None:
        """One safetensors file, whole or not at all."""
        tensors = {f"encoder.{name}": t.half() for name, t in self.encoder.tensors.items()}
        tensors |= {f"gate.{name}": t.float() for name, t in self.gate.items()}
        tensors["anchors"] = torch.from_numpy(self.anchors).half()
        notes = {
            "form": FORM,
            "features": list(FEATURES),
            "base_digest": base_digest,
            "high": self.high,
            "low": self.low,
            "about": self.about,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{uuid4().hex}.partial")  # another process may be writing the same file
        try:
            write_tensors(
                {n: t.contiguous() for n, t in tensors.items()}, partial, notes={"router": json.dumps(notes)}
            )
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, file: Path, words: WordTable, base_digest: str) -> Router:
        """The router in a file. Raises BadCheckpoint for another base's, or one of another form."""
        try:
            with safe_open(file, framework="pt") as opened:
                notes = json.loads((opened.metadata() or {}).get("router", "{}"))
                if notes.get("form") != FORM or notes.get("features") != list(FEATURES):
                    raise BadCheckpoint(
                        f"{file} holds a router of another release. Delete it: it is made again."
                    )
                if notes.get("base_digest") != base_digest:
                    raise BadCheckpoint(f"{file} holds another base's router. Delete it: it is made again.")
                tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
            encoder = {n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder.")}
            doors = {n.removeprefix("gate."): t for n, t in tensors.items() if n.startswith("gate.")}
            return cls(
                Encoder(encoder, words),
                doors,
                tensors["anchors"].numpy(),
                float(notes["high"]),
                float(notes["low"]),
                notes["about"],
            )
        except (SafetensorError, OSError, ValueError, KeyError) as e:
            raise BadCheckpoint(
                f"{file} cannot be read as a router ({e}). Delete it: it is made again."
            ) from e


def with_rounded(router: Router) -> Router:
    """The router as it is after writing and reading, so that the first use gives what every later one does."""
    tensors = {name: t.half().float() for name, t in router.encoder.tensors.items()}
    return Router(
        Encoder(tensors, router.encoder.words),
        router.gate,
        router.anchors.astype(np.float16).astype(np.float32),
        router.high,
        router.low,
        router.about,
    )
