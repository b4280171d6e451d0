"""Jobs and files from OpenAI's API into a folder: page by page, resumed where a run was cut, digests kept.

It knows OpenAI's lists and contents. The key is given, used for these requests, and written nowhere.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from inhouse.client.http import Address, Http
from inhouse.client.migrate.training import sha256_of
from inhouse.errors import InhouseError, InvalidRequest, ServerUnreachable, Unauthenticated

OPENAI = "https://api.openai.com/v1"
JOBS, FILES, CONTENTS = "openai-jobs.jsonl", "openai-files.jsonl", "files"
TRIES = 5
"""How often a download that breaks off is taken up again within one run."""
_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OF_TRAINING = ("fine-tune", "fine-tune-results")


@dataclass(slots=True)
class Downloaded:
    """What a run brought."""

    jobs: int = 0
    files: int = 0
    """Contents that were downloaded by this run."""
    kept: int = 0
    """Contents that an earlier run had brought, unchanged since."""
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


def download(
    folder: Path,
    key: str,
    *,
    api: str = OPENAI,
    on_news: Callable[[str], object] = lambda text: None,
) -> Downloaded:
    """Every tuning job of the key's project, and every file that belongs to tuning, in `folder`.

    A run that was cut goes on, within a file too. What lies there already is compared with its size and digest, and
    brought again where it differs. Raises InvalidRequest for an address to which a key must not be sent in the clear.
    """
    http = Http(Address(_checked(api), key))
    try:
        return _Download(folder, http, on_news, key).run()
    except InhouseError as e:
        e.message = _without(key, e.message)
        e.args = (e.message,)
        raise
    finally:
        http.close()


def _without(key: str, text: str) -> str:
    """A text of the server's without the key, which some servers repeat in their errors."""
    return text.replace(key, "(the key)")


def _checked(api: str) -> str:
    parts = urlsplit(api)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return api
    raise InvalidRequest(
        f"{api} is no address for a key: it would travel in the clear. Give one that begins with https://.",
        param="api",
    )


class _Download:
    def __init__(self, folder: Path, http: Http, on_news: Callable[[str], object], key: str) -> None:
        self._folder = folder
        self._key = key
        self._http = http
        self._on_news = on_news
        self._made = Downloaded()
        self._known = {item["id"]: item for item in _read_lines(folder / FILES)}
        """Files' descriptions by id, with x_sha256 once their content lies here."""

    def run(self) -> Downloaded:
        (self._folder / CONTENTS).mkdir(parents=True, exist_ok=True)
        jobs = {job["id"]: job for job in _read_lines(self._folder / JOBS)}
        jobs |= {job["id"]: job for job in self._pages("/v1/fine_tuning/jobs")}
        _write_lines(self._folder / JOBS, jobs.values())
        self._made.jobs = len(jobs)
        self._on_news(f"{len(jobs)} jobs")
        listed = {item["id"]: item for item in self._pages("/v1/files")}
        wanted = dict.fromkeys(id for job in jobs.values() for id in _files_of(job))
        wanted |= dict.fromkeys(id for id, item in listed.items() if item.get("purpose") in _OF_TRAINING)
        for id in wanted:
            try:
                self._bring(id, listed.get(id))
            except Unauthenticated:
                raise
            except InhouseError as e:
                why = _without(self._key, e.message)
                self._made.problems.append(f"{id}: {why}")
                self._on_news(f"{id} is not brought: {why}")
        return self._made

    def _bring(self, id: str, listed: Mapping[str, Any] | None) -> None:
        if not _ID.fullmatch(id):
            raise InvalidRequest("This is no id of a file.")
        before = self._known.get(id, {})
        about = dict(listed or self._http.call("GET", f"/v1/files/{quote(id, safe='')}"))
        size, target = int(about.get("bytes") or 0), self._folder / CONTENTS / f"{id}{_ending(about)}"
        if target.is_file() and target.stat().st_size == size:
            digest = sha256_of(target)
            if before.get("x_sha256", digest) == digest:
                self._made.kept += 1
                self._note(about, digest)
                return
            self._on_news(f"{id} was changed since it was brought: it is brought again")
        self._content(id, target, size)
        self._made.files += 1
        self._made.bytes += size
        self._note(about, sha256_of(target))
        self._on_news(f"{id} {about.get('filename') or ''}: {size:,} bytes")

    def _note(self, about: dict[str, Any], digest: str) -> None:
        self._known[about["id"]] = {**about, "x_sha256": digest}
        _write_lines(self._folder / FILES, self._known.values())

    def _content(self, id: str, target: Path, size: int) -> None:
        """A file's bytes, at their place only when all are there."""
        part = target.with_name(f"{id}.part")
        for attempt in range(1, TRIES + 1):
            try:
                self._go_on(id, part)
                break
            except ServerUnreachable:
                if attempt == TRIES:
                    raise
        if part.stat().st_size != size:
            found = part.stat().st_size
            part.unlink()
            raise InvalidRequest(
                f"OpenAI says that it has {size:,} bytes, and sent {found:,}. Run again to bring it anew."
            )
        part.replace(target)

    def _go_on(self, id: str, part: Path) -> None:
        """Bring what is missing of a part; all of it where the server does not give a rest."""
        have = part.stat().st_size if part.is_file() else 0
        headers = {"accept-encoding": "identity"} | ({"range": f"bytes={have}-"} if have else {})
        path = f"/v1/files/{quote(id, safe='')}/content"
        try:
            with self._http.send("GET", path, headers=headers) as reply:
                is_rest = reply.status_code == 206 and reply.headers.get("content-range", "").startswith(
                    f"bytes {have}-"
                )
                with part.open("ab" if is_rest else "wb") as stream:
                    for piece in self._http.pieces(reply):
                        stream.write(piece)
                    stream.flush()
                    os.fsync(stream.fileno())
        except InvalidRequest:
            if not have:
                raise
            part.unlink()  # a part that is as long as the file, or longer: there is no rest of it
            self._go_on(id, part)

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        params: dict[str, Any] = {"limit": 100}
        while True:
            page = self._http.call("GET", path, params=params)
            data = [item for item in page.get("data") or () if isinstance(item, dict) and item.get("id")]
            yield from data
            if not page.get("has_more") or not data or params.get("after") == data[-1]["id"]:
                return
            params["after"] = data[-1]["id"]


def _files_of(job: Mapping[str, Any]) -> list[str]:
    found = [job.get("training_file"), job.get("validation_file"), *(job.get("result_files") or ())]
    return [str(id) for id in found if id]


def _ending(about: Mapping[str, Any]) -> str:
    ending = Path(str(about.get("filename") or "")).suffix.lower()
    return ending if ending in (".jsonl", ".csv", ".json", ".txt") else ".jsonl"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue  # it is brought anew
        if isinstance(value, dict) and isinstance(value.get("id"), str):
            found.append(value)
    return found


def _write_lines(path: Path, items: Any) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as stream:
        for item in items:
            stream.write(json.dumps(item, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)
