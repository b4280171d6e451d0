"""A folder as people keep what they had at OpenAI: descriptions of jobs and files in JSON, and the files themselves.

It knows how such things are named and shaped; whether rows can be trained is training.py's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inhouse.errors import InvalidRequest

Description = Mapping[str, Any]

OURS = "inhouse-"
"""How the names begin of what a migration itself writes into the folder; these are not read."""
MANIFEST = "manifest.json"
"""May say which file has which id: {"file-abc": "rows.jsonl"}."""
MAX_DESCRIPTION_BYTES = 64 * 2**20
"""A JSON document longer than this describes no jobs."""
_JOB, _FILE, _LIST = "fine_tuning.job", "file", "list"


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in a folder. Paths are below `path`."""

    path: Path
    jobs: tuple[Description, ...] = ()
    """Oldest first, each id once: the description that says most of how it ended."""
    files: Mapping[str, Description] = field(default_factory=dict)
    """What OpenAI said of files, by their ids."""
    data: tuple[Path, ...] = ()
    """Everything that describes neither."""
    named: Mapping[str, str] = field(default_factory=dict)
    """What the manifest says: paths by file ids."""
    problems: tuple[str, ...] = ()
    """What could not be read, and how to mend it."""

    def find(self, id: str) -> Path:
        """The file that has this id at OpenAI: by the manifest, by its name, or by the name that OpenAI knew it by.

        Raises InvalidRequest where there is none, or more than one.
        """
        if id in self.named:
            path = self.path / self.named[id]
            if path in self.data:
                return path
            raise InvalidRequest(f"{MANIFEST} gives {self.named[id]!r} for {id}, which does not lie here.")
        filename = str(self.files.get(id, {}).get("filename") or "")
        ways = (
            [path for path in self.data if path.name == id or path.stem == id],
            [path for path in self.data if path.name.startswith((f"{id}_", f"{id}-", f"{id}."))],
            [path for path in self.data if filename and path.name == filename],
        )
        found: list[Path] = next((paths for paths in ways if paths), [])
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(self.name_of(path) for path in found[:4])
            raise InvalidRequest(
                f'{id} may be any of {names}. Say which in {MANIFEST}: {{"{id}": "{names.split(", ")[0]}"}}'
            )
        known = f" (at OpenAI it was called {filename})" if filename else ""
        raise InvalidRequest(
            f"{id}{known} does not lie in {self.path}. Put it there as {id}.jsonl, "
            f'or name its file in {MANIFEST}: {{"{id}": "rows.jsonl"}}'
        )

    def name_of(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()


def read_folder(path: Path) -> Folder:
    """What lies below `path`, each file looked at once. Raises InvalidRequest when there is no such folder."""
    if not path.is_dir():
        raise InvalidRequest(
            f"There is no folder {path}. Give the one that holds OpenAI's files.", param="folder"
        )
    jobs: dict[str, Description] = {}
    files: dict[str, Description] = {}
    named: dict[str, str] = {}
    data: list[Path] = []
    problems: list[str] = []
    for file in _files(path):
        try:
            found = _descriptions(file)
        except InvalidRequest as e:
            problems.append(f"{file.relative_to(path).as_posix()}: {e.message}")
            continue
        if found is None:
            data.append(file)
        elif file.name == MANIFEST and not any("object" in item for item in found):
            named |= {str(id): str(name) for item in found for id, name in item.items()}
        else:
            for item in found:
                _sort_in(item, jobs, files)
    ordered = sorted(jobs.values(), key=lambda job: (job.get("created_at") or 0, str(job["id"])))
    return Folder(path, tuple(ordered), files, tuple(data), named, tuple(problems))


def _files(path: Path) -> Iterator[Path]:
    for file in sorted(path.rglob("*")):
        below = file.relative_to(path).parts
        is_ours = any(part.startswith((".", OURS)) for part in below) or file.suffix == ".part"
        if not is_ours and file.is_file():
            yield file


def _sort_in(item: Description, jobs: dict[str, Description], files: dict[str, Description]) -> None:
    id = item.get("id")
    if not isinstance(id, str):
        return
    if item.get("object") == _FILE:
        files[id] = item
    elif item.get("object") == _JOB:
        before = jobs.get(id)
        if before is None or (item.get("finished_at") or 0) >= (before.get("finished_at") or 0):
            jobs[id] = item


def _descriptions(file: Path) -> list[Description] | None:
    """The objects that a JSON document or a JSONL file describes; None for rows and all else."""
    if file.suffix.lower() == ".json":
        return _of_document(file)
    if file.suffix.lower() not in (".jsonl", ".ndjson", ".txt", ""):
        return None
    with file.open("rb") as stream:
        first = b""
        while not first.strip() and (line := stream.readline(MAX_DESCRIPTION_BYTES)):
            first = line
        begun = _parsed(first)
        if begun is None and _JOB.encode() in first:
            raise InvalidRequest(
                "line 1 speaks of jobs and is not JSON. Write it again with job.model_dump_json()."
            )
        if not _is_description(begun):
            return None
        stream.seek(0)
        found: list[Description] = []
        for number, line in enumerate(stream, start=1):
            if line.strip():
                value = _parsed(line)
                if value is None:
                    raise InvalidRequest(
                        f"line {number} is not a JSON object. Write the job again with job.model_dump_json()."
                    )
                found += _opened(value)
    return found


def _of_document(file: Path) -> list[Description]:
    if file.stat().st_size > MAX_DESCRIPTION_BYTES:
        raise InvalidRequest(
            f"is longer than {MAX_DESCRIPTION_BYTES:,} bytes, so it describes no jobs. Rows belong in a .jsonl file."
        )
    value = _parsed(file.read_bytes())
    if value is None:
        raise InvalidRequest("is not valid JSON. Write it again with job.model_dump_json().")
    return _opened(value)


def _parsed(text: bytes) -> Any:
    """The value, or None for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_description(value: Any) -> bool:
    return isinstance(value, dict) and value.get("object") in (_JOB, _FILE, _LIST)


def _opened(value: Any) -> list[Description]:
    """The objects of an object, a list object, or an array."""
    if isinstance(value, dict):
        data = value.get("data")
        is_list = isinstance(data, list) and value.get("object") in (_LIST, None)
        return [item for item in data if isinstance(item, dict)] if is_list else [value]  # type: ignore[union-attr]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
