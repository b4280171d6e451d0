"""What was found so far, one JSON line each, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class Journal:
    """Lines of a file. Each names its `row` and, where it is about one, its `engine`; repeats have a number."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.entries: list[Entry] = []
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            whole, _, torn = text.rpartition("\n")  # a line that a kill cut off is measured again
            self.entries = [json.loads(line) for line in whole.splitlines()]
            if torn:
                self._rewrite()

    def add(self, **entry: Any) -> None:
        self.entries.append(entry)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def forget(self, row: str) -> None:
        """Drops all lines of a row, so that it is measured again as a whole."""
        self.entries = [entry for entry in self.entries if entry["row"] != row]
        self._rewrite()

    def repeats(self, row: str, engine: str) -> list[Entry]:
        """The finished repeats of an engine in a row, in order."""
        return [entry for entry in self._of(row, engine) if "figures" in entry]

    def absent(self, row: str, engine: str) -> str | None:
        """Why an engine is not in a row, where that was found out."""
        return next((str(entry["absent"]) for entry in self._of(row, engine) if "absent" in entry), None)

    def gate(self, row: str, engine: str) -> Entry | None:
        """What the correctness gate found."""
        return next((entry["gate"] for entry in self._of(row, engine) if "gate" in entry), None)

    def about(self, row: str, key: str) -> Any:
        """The last thing noted under a key about a row itself."""
        return next((e[key] for e in reversed(self.entries) if e["row"] == row and key in e), None)

    def _of(self, row: str, engine: str) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry["row"] == row and entry.get("engine") == engine)

    def _rewrite(self) -> None:
        part = self._file.with_suffix(".part")
        part.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries), encoding="utf-8")
        part.replace(self._file)
