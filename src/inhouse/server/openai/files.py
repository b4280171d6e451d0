"""Files: uploaded in a stream, kept by digest, listed, read back and forgotten.

It knows names and purposes; what is inside a file is checked when a job wants it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import FileResponse, Response

from inhouse.errors import InvalidRequest, RangeNotSatisfiable, Unavailable, UnsupportedParameter
from inhouse.schema import FILE_PURPOSES, File
from inhouse.server import audit, body, gateway, multipart
from inhouse.server.auth import caller
from inhouse.server.idempotency import create_once
from inhouse.server.openai.listing import list_wire, piece, whole_number
from inhouse.server.replies import Json
from inhouse.store import ids
from inhouse.store.records import files, forgetting

log = logging.getLogger(__name__)
router = APIRouter()

UPLOAD_PURPOSES = tuple(p for p in FILE_PURPOSES if p not in ("fine-tune-results", "batch_output"))
MAX_NAME_CHARACTERS = 255
MAX_LIST = 10_000
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
EXPIRY_S = (3600, 30 * 86_400)
"""The shortest and the longest time that OpenAI keeps a file which is to expire."""


@router.post("/v1/files", response_model=None)
async def create(request: Request) -> Response:
    """Keeps an uploaded file."""
    gw, who = gateway.of(request), caller(request)
    limit = gw.settings.max_file_bytes

    def keep(pieces: Iterator[bytes]) -> tuple[str, int]:
        return gw.artifacts.put_stream(pieces, limit)

    form = await multipart.receive(request, gw.store, keep, file_field="file", max_bytes=limit)
    purpose = form.fields.pop("purpose", None)
    keep_s = _expiry(form.fields)
    for name in form.fields:
        raise UnsupportedParameter(f"This server does not honour {name}. Leave it out.", param=name)
    if purpose is None:
        raise InvalidRequest("purpose is required.", param="purpose", code="missing_required_parameter")
    if purpose not in UPLOAD_PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(UPLOAD_PURPOSES)}.", param="purpose")
    if form.kept is None or form.filename is None:
        raise InvalidRequest("file is required.", param="file", code="missing_required_parameter")
    digest, size = form.kept
    filename = _shown(form.filename)
    if size == 0:
        raise InvalidRequest(f"{filename} is empty. Send a file with at least one row.", param="file")

    def add(conn: Connection) -> dict[str, Any]:
        forgetting.hold_artifacts(conn)
        if not gw.artifacts.exists(digest):
            raise Unavailable(
                "The same content was forgotten while it came. Upload it again.", retry_after_s=1.0
            )
        now = gw.db.clock(conn)
        file = File(
            id=ids.new("file"),
            project=who.project,
            filename=filename,
            purpose=purpose,
            bytes=size,
            digest=digest,
            created_at=now,
            expires_at=None if keep_s is None else int(now) + keep_s,
        )
        files.add(conn, file)
        return wire(file)

    asked = f"{digest} {purpose} {filename}" + ("" if keep_s is None else f" {keep_s}")
    return await create_once(request, asked.encode(), add)


@router.get("/v1/files", response_model=None)
async def list_all(request: Request) -> Response:
    """The project's files, newest first."""
    asked = body.query(request, ("after", "limit", "order", "purpose"))
    part, project = piece(asked, MAX_LIST, MAX_LIST), caller(request).project
    found, has_more = await gateway.of(request).store.read(
        lambda conn: files.page(
            conn,
            project,
            purpose=asked.get("purpose"),
            after=part.after,
            limit=part.limit,
            order=part.order,
        )
    )
    return Json(list_wire([wire(file) for file in found], has_more))


@router.get("/v1/files/{id}", response_model=None)
async def retrieve(request: Request, id: str) -> Response:
    """One file's facts."""
    return Json(wire(await _get(request, id)))


@router.get("/v1/files/{id}/content", response_model=None)
async def content(request: Request, id: str) -> Response:
    """One file's bytes."""
    gw, file = gateway.of(request), await _get(request, id)
    await gw.restricted.require(
        caller(request), file, "GET /v1/facts/export gives those that you may see; or ask an admin."
    )
    path = gw.artifacts.path(file.digest)
    _check_range(request, file)
    disposition = f"attachment; filename*=utf-8''{quote(file.filename, safe='')}"
    return FileResponse(
        path,
        media_type="application/octet-stream",
        headers={"content-disposition": disposition, "etag": f'"{file.digest}"'},
    )


@router.delete("/v1/files/{id}", response_model=None)
async def delete(request: Request, id: str) -> Response:
    """Forgets a file. Jobs that were made from it keep what they need."""
    who = caller(request)

    def forget(conn: Connection) -> None:
        files.delete(conn, who.project, id)
        audit.note(conn, who, "file.deleted", id)

    await gateway.of(request).store.write(forget)
    return Json({"id": id, "object": "file", "deleted": True})


def wire(file: File) -> dict[str, Any]:
    """A file as OpenAI's clients read it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    } | ({} if file.expires_at is None else {"expires_at": int(file.expires_at)})


def _expiry(fields: dict[str, str]) -> int | None:
    """For how many seconds the file is to be kept; takes the form's two fields for it. Raises InvalidRequest."""
    anchor, seconds = (fields.pop(f"expires_after[{name}]", None) for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest(
            "A file's time runs from created_at: expires_after[anchor]=created_at.",
            param="expires_after[anchor]",
        )
    return whole_number("expires_after[seconds]", seconds or "", *EXPIRY_S)


def _check_range(request: Request, file: File) -> None:
    """Raises RangeNotSatisfiable for a part that begins behind the file's end; what is no single range is ignored."""
    found = RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or found.group() == "bytes=-":
        request.scope["headers"] = [h for h in request.scope["headers"] if h[0] != b"range"]
        return
    first, last = found.groups()
    is_there = int(first) < file.bytes if first else int(last) > 0
    is_forward = not (first and last) or int(first) <= int(last)
    is_meant = request.headers.get("if-range", f'"{file.digest}"') == f'"{file.digest}"'
    if is_meant and not (is_there and is_forward):
        raise RangeNotSatisfiable(
            f"{file.id} has {file.bytes} bytes. Ask for a range within them.", param="Range"
        )


async def _get(request: Request, id: str) -> File:
    project = caller(request).project
    return await gateway.of(request).store.read(lambda conn: files.get(conn, project, id))


def _shown(filename: str) -> str:
    """The name to show in lists and errors: its last part, printable. It is never used as a path."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable())[:MAX_NAME_CHARACTERS] or "file"
