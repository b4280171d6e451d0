"""Opens a base for a job: its folder, device, type, tokenizer, template and weights."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from inhouse import device as devices
from inhouse import ops
from inhouse.errors import BadCheckpoint
from inhouse.model.decoder import Decoder
from inhouse.model.locate import EMBEDDED, locate
from inhouse.model.weights import digest_of, digests_beside, file_digests, load_base, shard_files
from inhouse.schema import ModelCard
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database
from inhouse.store.records import models
from inhouse.text.template import ChatTemplate
from inhouse.text.tokenizer import Tokenizer
from inhouse.worker.patience import patiently

log = logging.getLogger(__name__)

SMALL_BYTES = 256 * 2**20
"""Weight files of a base small enough to serve in float32."""
FILES = "files"
"""In what is noted about a base: the SHA-256 of each of its files, as they were when it was first opened."""


@dataclass(frozen=True, slots=True)
class OpenBase:
    """A base ready to be trained or served."""

    name: str
    folder: Path
    digest: str
    decoder: Decoder
    tokenizer: Tokenizer
    template: ChatTemplate


def folder_of(card: ModelCard, artifacts: Artifacts) -> Path:
    """Where a base's files are: among the artifacts for a fully tuned one, else where its source says."""
    if card.kind == "full":
        assert card.digest is not None, "a fully tuned model is an artifact"
        return artifacts.folder(card.digest)
    if card.kind == "adapter":
        raise BadCheckpoint(
            f"{card.name} is an adapter on {card.base}; name the base itself, or a fully tuned model."
        )
    assert card.source is not None, "a base has a source"
    return locate(card.name, card.source)


def serving_dtype(folder: Path, device: devices.Device, asked: str) -> torch.dtype:
    """What a base is served in: float32 for a small one unless the settings say otherwise, as what
    else shares the batch then changes last digits alone and hardly ever a token; else what the device prefers."""
    if asked == "auto" and sum(f.stat().st_size for f in shard_files(folder)) < SMALL_BYTES:
        return torch.float32
    return device.dtype(asked)


def open_base(
    card: ModelCard,
    artifacts: Artifacts,
    settings: Settings,
    *,
    for_serving: bool = False,
    db: Database | None = None,
) -> OpenBase:
    """Loads a base onto the device the settings name. Raises BadCheckpoint when it is unsafe or not whole, or when a
    file of it is not what it was when the base was first opened, which is noted in `db`.

    What it is computed in is the device's choice, or `serving_dtype`'s where it is opened for serving.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    ops.kernels.prefer(settings.kernels)
    device = devices.pick(settings.device)
    folder = folder_of(card, artifacts)
    tokenizer = Tokenizer.load(folder)
    dtype = serving_dtype(folder, device, settings.dtype) if for_serving else device.dtype(settings.dtype)
    quantization = settings.quantization if for_serving else None
    decoder = load_base(folder, device=device.torch_device, dtype=dtype, quantization=quantization)
    if tokenizer.vocab_size > decoder.config.vocab_size:
        raise BadCheckpoint(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} entries, the embedding {decoder.config.vocab_size}. "
            "Tokenizer and weights are of different models."
        )
    files = file_digests(folder)
    _refuse_changed(card, folder, files, artifacts)
    if db is not None and card.kind == "base" and card.source != EMBEDDED and FILES not in card.about:
        patiently(partial(_note, db, card.name, files))
    trusted = {digest.strip().lower() for digest in settings.trusted_templates.split(",")}
    template = ChatTemplate.load(folder, tokenizer, trusted)
    if not template.is_trusted:
        log.info(
            "%s: a process with limits renders its chat template, SHA-256 %s", card.name, template.digest
        )
    return OpenBase(card.name, folder, digest_of(files), decoder, tokenizer, template)


def _note(db: Database, name: str, files: dict[str, str]) -> None:
    with db.write() as conn:
        models.note(conn, name, {FILES: files})


def _refuse_changed(card: ModelCard, folder: Path, files: dict[str, str], artifacts: Artifacts) -> None:
    """A bit that has flipped in a shard is some other model: nobody would see it from the replies.

    What a base is that comes with the package, the package says, in a file beside it.
    """
    if card.kind == "full":
        assert card.digest is not None, "a fully tuned model is an artifact"
        known = {name: entry["sha256"] for name, entry in artifacts.manifest(card.digest).items()}
    elif card.source == EMBEDDED:
        known = _shipped(folder)
    else:
        known = card.about.get(FILES, {})
    for name in sorted(known.keys() | files.keys()) if known else ():
        is_now, was = files.get(name, "none"), known.get(name, "none")
        if is_now != was:
            if card.source == EMBEDDED:
                before, cure = "the package came with", "install the package again"
            else:
                before, cure = f"{card.name} was opened with before", "fetch it again"
            raise BadCheckpoint(
                f"{folder / name} is not the file that {before}: its SHA-256 is {is_now} "
                f"and was {was}. It is damaged or missing: {cure}. If it was replaced on purpose, register "
                "the folder under another name.",
                code="corrupt_base",
            )


def _shipped(folder: Path) -> dict[str, str]:
    file = digests_beside(folder)
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise BadCheckpoint(
            f"{file} is damaged or missing: what {folder.name} should be is not known. Install the package again.",
            code="corrupt_base",
        ) from e
    return {str(name): str(digest) for name, digest in known.items()}
