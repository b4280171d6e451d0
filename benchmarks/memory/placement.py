"""From which of the base's states keys should be made: embeddings, states after some blocks, or several together.

    python -m benchmarks.memory.placement

For each choice one linear map is learnt over the mean of a question's states, by the router's own relations with a
fifth held out; the figure is how often a held-out question's nearest taught wording asks the same. One JSON line a
choice. The ablation behind `memory/encoder.py`: a state after a block costs a forward pass a request.
"""

from __future__ import annotations

import json
import time
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.memory.weights import SEEDLING
from inhouse.memory.phrases import E, Relation, relations
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Packed
from inhouse.model.weights import load_base
from inhouse.text.tokenizer import Tokenizer

CHOICES = ((0,), (3,), (6,), (0, 3), (0, 2, 4, 6))
"""Numbers of blocks behind which a state is taken; 0 is the embedding."""
STEPS, BATCH, WIDTH, RATE, TEMPERATURE = 400, 256, 192, 3e-3, 0.06


def main() -> None:
    torch.set_num_threads(1)
    decoder, tokenizer = load_base(SEEDLING), Tokenizer.load(SEEDLING)
    kept = list(relations())
    Random(0).shuffle(kept)
    away, seen = kept[: len(kept) // 5], kept[len(kept) // 5 :]
    asks = [ask for relation in kept for ask in relation.asks]
    states = {ask: _states(decoder, tokenizer, ask) for ask in asks}
    for choice in CHOICES:
        began = time.process_time()
        means = {ask: torch.cat([state[i] for i in choice]) for ask, state in states.items()}
        print(
            json.dumps(
                _measured(choice, means, seen, away) | {"cpu_s": round(time.process_time() - began, 1)}
            )
        )


@torch.no_grad()
def _states(decoder: Decoder, tokenizer: Tokenizer, ask: str) -> list[Tensor]:
    """The mean over tokens of the embedding and of what each block gives. [blocks + 1] of [D]"""
    ids = torch.tensor(tokenizer.encode(ask.replace(E, "this"), special=False))
    places, attend = torch.arange(len(ids)), Packed([len(ids)])
    x = decoder.embed(ids, places).float()
    turns = decoder.turns(places, attend)
    found = [x]
    for block in decoder.blocks:
        x = block(x, turns, attend, None)
        found.append(x)
    return [F.normalize(state, dim=-1).mean(0) for state in found]


def _measured(
    choice: tuple[int, ...], means: dict[str, Tensor], seen: list[Relation], away: list[Relation]
) -> dict[str, Any]:
    random = Random(1)
    every = torch.stack(list(means.values()))
    middle, spread = every.mean(0), every.std(0) + 1e-4
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(WIDTH, every.shape[1], generator=generator) * every.shape[1] ** -0.5
    classes = torch.randn(len(seen), WIDTH, generator=generator)
    optimiser = torch.optim.AdamW([projection.requires_grad_(), classes.requires_grad_()], lr=RATE)

    def keys(asks: list[str]) -> Tensor:
        x = (torch.stack([means[ask] for ask in asks]) - middle) / spread
        return F.normalize(x @ projection.T, dim=-1)

    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        owners = [random.randrange(len(seen)) for _ in range(BATCH)]
        asked = [random.choice(seen[i].asks) for i in owners]
        odds = keys(asked) @ F.normalize(classes, dim=-1).T / TEMPERATURE
        loss = F.cross_entropy(odds, torch.tensor(owners))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        hits = tried = 0
        for kind in sorted({relation.of for relation in away}):
            group = [relation for relation in away if relation.of == kind]
            taught = [(i, ask) for i, r in enumerate(group) for ask in r.asks[::4]]
            asked_ = [(i, ask) for i, r in enumerate(group) for ask in r.asks[1::2]]
            nearest = (keys([a for _, a in asked_]) @ keys([a for _, a in taught]).T).argmax(1).tolist()
            hits += sum(taught[j][0] == i for (i, _), j in zip(asked_, nearest, strict=True))
            tried += len(asked_)
    return {"states": list(choice), "held_out_recall": round(hits / tried, 4), "of": tried}


if __name__ == "__main__":
    main()
