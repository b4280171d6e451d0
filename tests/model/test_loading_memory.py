"""A base that is loaded to be served takes hardly more memory on the way than when it is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inhouse.model.build import fresh
from inhouse.model.config import ModelConfig
from inhouse.model.weights import save_base
from tests.tiny import base_folder

CHILD = """
import re, sys, torch
from pathlib import Path
from inhouse.model.weights import load_base
from inhouse.ops.cpu import library

library.load()
folder, way = Path(sys.argv[1]), sys.argv[2]
most = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = most()
decoder = load_base(folder, dtype=torch.bfloat16, quantization="none" if way == "block by block" else None)
decoder.serve()
print((most() - before) / (decoder.weight_bytes + decoder.embedding.nbytes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux counts it")
def test_one_block_at_a_time_lies_in_memory_twice(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "tiny")

    settings = json.loads((folder / "config.json").read_text())
    settings |= {
        "hidden_size": 1024, "intermediate_size": 2560, "num_hidden_layers": 8, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": 64,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    save_base(fresh(ModelConfig.load(folder), 1), folder, like=folder, dtype=torch.bfloat16)

    def share(way: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, folder, way], check=True, capture_output=True, text=True
        )
        return float(done.stdout)

    one_by_one, together = share("block by block"), share("all, then served")
    assert one_by_one < 1.35
    assert together > one_by_one + 0.1, "the control: this is what the way above saves"
