"""What PEFT makes of an adapter's folder: each module's product, computed by the library that defined the format.

It is asked in a process of its own, because its imports take seconds and must not hold up a step. PEFT gets layers of
the base's names and shapes whose own products are zero; it reads the folder's config and tensors itself.
`python -m inhouse.engine.peft_oracle FOLDER` takes inputs as safetensors on its standard input and answers likewise.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from inhouse.model.adapters import MODULE_PREFIX, WEIGHTS

PATIENCE_S = 120.0
"""How long it may take."""


def products(folder: Path, inputs: dict[str, Tensor], outputs: dict[str, int]) -> dict[str, Tensor] | str:
    """Module → [N, O] float32, from its input [N, I] and O; or why there is no answer."""
    if importlib.util.find_spec("peft") is None:
        return "PEFT is not installed here: pip install peft"
    question = save(inputs, {"outputs": json.dumps(outputs)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "inhouse.engine.peft_oracle", str(folder)],
            input=question,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return f"PEFT gave no answer in {PATIENCE_S:.0f} s"
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return f"PEFT did not load it: {lines[-1] if lines else 'it ended without a word'}"
    return load(done.stdout)


def answer(folder: Path, question: bytes) -> bytes:
    """The child's part."""
    import peft

    inputs = load(question)
    size = int.from_bytes(question[:8], "little")
    outputs = json.loads(json.loads(question[8 : 8 + size])["__metadata__"]["outputs"])
    root = nn.Module()
    for name, x in inputs.items():
        _put(root, name, x.shape[1], outputs[name])
    warnings.simplefilter("ignore")  # it says that these layers are no Conv1D, which is so
    model = peft.inject_adapter_in_model(peft.LoraConfig.from_pretrained(str(folder)), root)
    stored = {name.removeprefix(MODULE_PREFIX): t for name, t in load_file(folder / WEIGHTS).items()}
    peft.set_peft_model_state_dict(model, stored)
    with torch.no_grad():
        return save({name: model.get_submodule(name)(x).contiguous() for name, x in inputs.items()})


def _put(root: nn.Module, name: str, inputs: int, outputs: int) -> None:
    """A linear layer without weights of its own under a dotted name."""
    *path, last = name.split(".")
    for step in path:
        if not hasattr(root, step):
            root.add_module(step, nn.Module())
        root = root.get_submodule(step)
    layer = nn.Linear(inputs, outputs, bias=False, device="meta")
    layer.weight = nn.Parameter(torch.zeros(1, 1).expand(outputs, inputs), requires_grad=False)
    root.add_module(last, layer)


if __name__ == "__main__":
    sys.stdout.buffer.write(answer(Path(sys.argv[1]), sys.stdin.buffer.read()))
