"""Registers bases: the embedded one, a folder of weights, or a hub id. A quick look, no weights read.

It knows what a folder must and must not hold. Whether the weights fit is the workshop's to find out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection
from starlette.requests import Request

from inhouse.errors import BadCheckpoint, Conflict, InvalidRequest, ModelNotFound
from inhouse.schema import ModelCard
from inhouse.server import gateway
from inhouse.server.auth import caller
from inhouse.store.records import models

EMBEDDED = "seedling"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
REFUSED = ("*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")
INDEX = "model.safetensors.index.json"
MAX_JSON_BYTES = 16 * 2**20


def find(conn: Connection, project: str, name: str) -> ModelCard:
    """A model that this project may ask, by its name; a base by the folder or id it was registered from, too."""
    try:
        return models.get(conn, project, name)
    except ModelNotFound:
        card = named_by(models.all(conn, ""), name)
        if card is None:
            raise
        return card


async def for_text(request: Request, name: str, instead: str) -> ModelCard:
    """The model of this name that reads plain text: believed for a while, as `StoreThreads.believed` has it.

    Raises InvalidRequest for a memory; `instead` says what to do then, with {base} for its base.
    """
    project = caller(request).project
    store = gateway.of(request).store
    card = await store.believed(("model", project, name), lambda conn: find(conn, project, name))
    if card.kind == "memory":
        advice = instead.format(base=card.base)
        raise InvalidRequest(f"{card.name} is a memory, which answers conversations. {advice}", param="model")
    return card


def named_by(cards: Iterable[ModelCard], what: str) -> ModelCard | None:
    """The base among these that `what` means: by its name, or else by the folder or id it came from."""
    known = [card for card in cards if card.kind == "base"]
    source = str(_folder(what)) if looks_like_folder(what) else what
    named = (card for card in known if card.name == what)
    return next(named, None) or next((card for card in known if card.source == source), None)


def register(conn: Connection, what: str, now: float, name: str | None = None) -> ModelCard:
    """The card of a base named by registered name, folder or hub id; made now if it is new.

    With `name` the base goes by that name as well as by those it has. Raises ModelNotFound when `what` is
    none of these, BadCheckpoint for a folder that cannot be a base, Conflict when `name` is another base's.
    """
    known = {card.name: card for card in models.all(conn, "") if card.kind == "base"}
    if what in known and name in (None, what):
        return known[what]
    if what in known:
        source = known[what].source or what
    elif what == EMBEDDED:
        source = "embedded"
    elif looks_like_folder(what):
        folder = _folder(what)
        check_folder(folder)
        source = str(folder)
    elif HUB_ID.fullmatch(what):
        source = what
    else:
        raise ModelNotFound(
            f"{what!r} is no registered base, no folder here and no hub id (owner/name). "
            "`inhouse models` and GET /v1/models list the registered ones.",
            param="model",
        )
    for card in known.values():
        if card.source == source and name in (None, card.name):
            return card
    if name in known:
        raise Conflict(
            f"{name!r} is the base from {known[name].source}. Choose another name for {source}.",
            code="name_taken",
            param="name",
        )
    card = ModelCard(
        name=name or _free_name(what, source, known),
        project=None,
        kind="base",
        base=name or _free_name(what, source, known),
        source=source,
        created_at=now,
    )
    models.put_base(conn, card)
    return card


def missing(conn: Connection) -> list[str]:
    """Registered bases whose folder has gone from this machine: what holds them in memory goes on, and nothing else."""
    known = (card for card in models.all(conn, "") if card.kind == "base" and card.source)
    return [
        card.name
        for card in known
        if Path(str(card.source)).is_absolute() and not Path(str(card.source)).is_dir()
    ]


def looks_like_folder(what: str) -> bool:
    return what.startswith(("/", ".", "~"))


def _folder(what: str) -> Path:
    return Path(what).expanduser().resolve()


def check_folder(folder: Path) -> None:
    """Raises BadCheckpoint that names what is missing or dangerous, and the cure."""
    if not folder.is_dir():
        raise BadCheckpoint(f"{folder} is no folder on the server's machine. Check the path.", param="model")
    for pattern in REFUSED:
        for found in folder.glob(pattern):
            raise BadCheckpoint(
                f"{folder} holds {found.name}, which may run code when it is loaded. "
                "Keep only safetensors, JSON and text files in the folder.",
                param="model",
            )
    if not (folder / "config.json").is_file():
        raise BadCheckpoint(
            f"{folder} holds no config.json. Point to a Hugging Face model folder.", param="model"
        )
    if (folder / INDEX).is_file():
        missing = sorted(shard for shard in _shards(folder / INDEX) if not (folder / shard).is_file())
        if missing:
            raise BadCheckpoint(
                f"{folder} lacks {missing[0]}, which {INDEX} names ({len(missing)} missing). "
                "Download it again.",
                param="model",
            )
    elif not any(folder.glob("*.safetensors")):
        raise BadCheckpoint(
            f"{folder} holds no .safetensors weights. Convert or download them.", param="model"
        )


def _shards(index: Path) -> set[str]:
    try:
        if index.stat().st_size > MAX_JSON_BYTES:
            raise ValueError
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise BadCheckpoint(
            f"{index} is not a valid index of shards. Download it again.", param="model"
        ) from None
    if not all(isinstance(shard, str) and Path(shard).name == shard for shard in shards):
        raise BadCheckpoint(f"{index} names a shard outside its folder.", param="model")
    return shards


def _free_name(what: str, source: str, known: dict[str, ModelCard]) -> str:
    """A hub id is its own name; a folder goes by its last part, made unlike every other base's."""
    name = Path(source).name if Path(source).is_absolute() else what
    if name in known and known[name].source != source:
        name += "-" + hashlib.sha256(source.encode()).hexdigest()[:6]
    return name
