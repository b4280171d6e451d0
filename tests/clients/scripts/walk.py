"""What every script is told by the runner, and how it says what it has done. Needs nothing but Python."""

from __future__ import annotations

import json
import os
from pathlib import Path

BASE_URL = os.environ["WALK_BASE_URL"]
"""With /v1 at its end."""
KEY = os.environ["WALK_KEY"]
MODEL = os.environ["WALK_MODEL"]
TOKENIZER = Path(os.environ["WALK_TOKENIZER"])
"""A folder with the model's tokenizer in Hugging Face's form."""
FOLDER = Path(os.environ["WALK_FOLDER"])
"""Empty, for what a script writes."""

QUESTION = "Passage: Ines Roth runs the harbour office in Lund. Question: Who runs the harbour office?"
FACTS = {"Who signs?": "Ines", "What code?": "QX-19", "When?": "at 7:42"}


def did(what: str) -> None:
    """Says that something was done and found right."""
    print(f"did: {what}", flush=True)


def facts_file() -> Path:
    """A training file of a few facts."""
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in FACTS.items()
    ]
    path = FOLDER / "facts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * 4))
    return path


def batch_file() -> Path:
    """Two requests for a batch, of which the second names a model that is not there."""
    bodies = [
        {"model": name, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}
        for name in (MODEL, "no-such-model")
    ]
    path = FOLDER / "batch.jsonl"
    lines = [
        {"custom_id": f"row-{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for i, body in enumerate(bodies)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
