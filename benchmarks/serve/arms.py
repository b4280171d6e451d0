"""An engine under measurement, in a process of its own: ours and every peer's are spoken to alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serve import environments
from benchmarks.serve.peers.wire import Absent, Order

SCRIPTS = Path(__file__).parent / "peers"
ROOT = Path(__file__).resolve().parents[2]

VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
}
"""Of every engine's process: one thread, one process, offline and silent."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to serve: which script, in whose environment, opened how."""

    name: str
    script: str
    environment: str | None
    """None is this interpreter."""
    way: dict[str, Any] = field(default_factory=dict)
    """Goes into the order that opens it."""
    is_ours: bool = False
    is_variant: bool = False
    """Another way to mix adapters on our own decoder: no engine by itself."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("house", "benchmarks.serve.ours", None, is_ours=True),
        Kind("gather and bmm", "benchmarks.serve.variants", None, {"way": "bmm"}, is_variant=True),
        Kind(
            "torch's grouped products", "benchmarks.serve.variants", None, {"way": "grouped"}, is_variant=True
        ),
        Kind("HF generate", "huggingface.py", "huggingface", {"way": "generate"}),
        Kind("HF continuous", "huggingface_continuous.py", "huggingface"),
        Kind("PEFT mixed", "huggingface.py", "huggingface", {"way": "mixed"}),
        Kind("PEFT switching", "huggingface.py", "huggingface", {"way": "switching"}),
        Kind("vLLM-CPU", "vllm_engine.py", "vllm"),
        Kind("OpenVINO GenAI", "openvino_engine.py", "openvino"),
        Kind("llama.cpp", "llamacpp_engine.py", "llamacpp"),
    )
}


class Arm:
    """A running engine. Whatever it refuses or fails at is raised as Absent, with its reason."""

    def __init__(self, kind: Kind, folder: Path, *, here: bool = False) -> None:
        self.kind = kind
        self._log = folder / "logs" / f"{kind.name.replace(' ', '-')}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        if kind.environment is None or here:
            python = Path(sys.executable)
        else:
            python = environments.python_of(folder, kind.environment)
        self.made_s = time.perf_counter() - began
        line = [python, "-m", kind.script] if kind.environment is None else [python, SCRIPTS / kind.script]
        self.began = time.perf_counter()
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [str(part) for part in line],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, **VARIABLES},
            )

    def ask(self, do: str, **order: Any) -> Order:
        """The answer to an order."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **self.kind.way, **order}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Absent(
                f"its process ended ({self._process.wait()}); the last it said: {self._last_words()}"
            )
        answer: Order = json.loads(line)
        if "absent" in answer:
            raise Absent(str(answer["absent"]))
        return answer

    def end(self) -> None:
        """Ends the process, which loses nothing by it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else "nothing"
