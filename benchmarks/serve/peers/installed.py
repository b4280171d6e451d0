"""Prints how many megabytes of an environment's packages are torch's, with what it needs, and how many others'.

Arguments name requirements, such as `inhouse[worker]`: then only what those need is counted. Standard library alone.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import re
import sys

ACCELERATORS = ("nvidia", "cuda", "triton")
"""Beginnings of names of packages that only torch's builds for accelerators bring."""


def needed(roots: list[str]) -> set[str]:
    """Names of the packages that the roots need, themselves included."""
    found: set[tuple[str, str]] = set()
    left = [_parsed(root) for root in roots]
    while left:
        name, extra = left.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            requirements = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            continue  # for another system, or an extra that nobody installed
        for requirement in requirements:
            wanted, _, condition = requirement.partition(";")
            marks = re.findall(r"extra\s*==\s*['\"]([^'\"]+)", condition)
            if not marks or extra in marks:
                left.append(_parsed(wanted))
                left.append((_parsed(wanted)[0], ""))
    return {name for name, _ in found}


def _parsed(requirement: str) -> tuple[str, str]:
    match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?", requirement)
    assert match, f"{requirement!r} is no requirement"
    return re.sub(r"[-_.]+", "-", match[1]).lower(), match[2] or ""


def main() -> None:
    roots = sys.argv[1:]
    names = needed(roots) if roots else None
    of_torch = needed(["torch"])
    total = {"torch": 0.0, "others": 0.0}
    for package in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        if name in ("pip", "setuptools") or (names is not None and name not in names):
            continue
        size = sum(file.size or 0 for file in package.files or ()) / 1e6
        is_torch = name in of_torch or name.startswith(ACCELERATORS)
        total["torch" if is_torch else "others"] += size
    print(json.dumps(total))


main()
