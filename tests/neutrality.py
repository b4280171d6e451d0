"""Counts words of a vendor in the package. Outside device/ and ops/ the count is 0; CI shows it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "inhouse"
EXEMPT = ("device", "ops")
TORCH_MODULES = {"cuda", "xpu", "mps", "npu", "hpu", "mtia", "musa", "mlu", "xla", "hip"}
LIBRARIES = {
    "torch_npu", "torch_xla", "habana_frameworks", "intel_extension_for_pytorch", "flash_attn", "bitsandbytes",
    "pynvml", "amdsmi", "aiter", "triton", "mlx", "jax", "apex", "transformer_engine", "cupy",
}  # fmt: skip
WORDS = re.compile(
    r"\b(cuda|hip|rocm|xpu|mps|npu|hpu|xla|tpu|nccl|rccl|xccl|hccl|nvidia|amd|intel|apple|geforce|radeon"
    r"|gfx[0-9a-f]{3,4}|sm_\d{2,3}a?|(cuda|hip|rocr)_visible_devices|ze_affinity_mask)\b",
    re.IGNORECASE,
)


def findings(source: str) -> Iterator[tuple[int, str]]:
    """Every line of code (comments and docstrings aside) that names a vendor, and what it names."""
    tree = ast.parse(source)
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in TORCH_MODULES | {
            f"is_{m}" for m in TORCH_MODULES
        }:
            yield node.lineno, f".{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                first, *rest = name.split(".")
                if first in LIBRARIES or (first == "torch" and rest and rest[0] in TORCH_MODULES):
                    yield node.lineno, f"import {name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            if match := WORDS.search(node.value):
                yield node.lineno, repr(match[0])


def count(package: Path = PACKAGE) -> list[str]:
    """`file:line what` for each finding outside the exempt folders."""
    return [
        f"{path.relative_to(package)}:{line} {what}"
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] not in EXEMPT
        for line, what in findings(path.read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    found = count()
    print("\n".join(found), end="\n" if found else "")
    print(f"neutrality: {len(found)} vendor names outside {'/, '.join(EXEMPT)}/")
    sys.exit(bool(found))
