"""Makes the facts router that comes with an embedded base: the same bytes each time, on one thread.

    python -m recipes.facts_router src/inhouse/bases/seedling

Any other base gets its router by itself, when its first memory is tuned or asked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from inhouse.memory.learn import learn
from inhouse.memory.router_store import SHIPPED, word_table
from inhouse.model.weights import folder_digest, load_base
from inhouse.text.tokenizer import Tokenizer


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    words = word_table(load_base(folder), Tokenizer.load(folder))
    for progress in learn(words):
        if progress.recall is not None:
            at = f"step {progress.step} of {progress.total_steps}"
            print(f"{at}: loss {progress.loss:.3f}, recall {progress.recall:.3f}", flush=True)
        if progress.router is not None:
            progress.router.write(folder / SHIPPED, folder_digest(folder))
            print(json.dumps(progress.router.about | {"high": progress.router.high}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
