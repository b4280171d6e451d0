"""A checkpoint's tokenizer: text to ids, ids to text, and the bytes behind each id.

It knows nothing of conversations (`text.template`) nor of streaming (`text.stream`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from inhouse.errors import BadCheckpoint

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_METASPACE = "▁"


class Tokenizer:
    """One checkpoint's vocabulary and its rules."""

    def __init__(self, inner: tokenizers.Tokenizer, named: dict[str, str], eos_ids: frozenset[int]) -> None:
        self._inner = inner
        self.named = named
        """Special tokens by role: bos_token, eos_token, ... as the chat template may ask for them."""
        self.eos_ids = eos_ids
        self.vocab_size = inner.get_vocab_size(with_added_tokens=True)
        added = inner.get_added_tokens_decoder()
        self._special = frozenset(i for i, token in added.items() if token.special)
        self.special_texts = sorted((added[i].content for i in self._special), key=len, reverse=True)
        """How special tokens are written, longest first."""
        self._added = {i: token.content for i, token in added.items()}
        self._is_byte_level = "ByteLevel" in json.dumps(_parts(inner, "decoder"))
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads folder/tokenizer.json and the special tokens named beside it."""
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise BadCheckpoint(
                f"{file} is missing. Save the tokenizer in the fast format: "
                "AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
            )
        try:
            inner = tokenizers.Tokenizer.from_file(str(file))
        except Exception as e:
            if type(e) is not Exception:  # the library raises that very class, and nothing else is its word
                raise
            raise BadCheckpoint(f"{file} is not a readable tokenizer ({e}). Fetch it again.") from e
        config = _json(folder / "tokenizer_config.json")
        named = {k: _content(v) for k, v in config.items() if k.endswith("_token") and v is not None}
        eos: set[int] = set()
        for source in ("generation_config.json", "config.json"):
            value = _json(folder / source).get("eos_token_id")
            eos.update(i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int))
        if "eos_token" in named and (token := inner.token_to_id(named["eos_token"])) is not None:
            eos.add(token)
        inner.no_truncation()
        inner.no_padding()
        return cls(inner, named, frozenset(eos))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text. `special` lets the checkpoint add what it begins texts with."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out, broken UTF-8 replaced."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_id(self, token: str) -> int | None:
        found: int | None = self._inner.token_to_id(token)
        return found

    def is_special(self, token: int) -> bool:
        return token in self._special

    def token_text(self, token: int) -> str:
        """A token as people may read it, special ones by name."""
        if token in self._added:
            return self._added[token]
        return self.token_bytes(token).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token adds to the text: none for special tokens and for ids beyond the vocabulary."""
        if token not in self._bytes:
            self._bytes[token] = self._look_up(token)
        return self._bytes[token]

    def _look_up(self, token: int) -> bytes:
        if token in self._special:
            return b""
        if token in self._added:
            return self._added[token].encode()
        piece: str | None = self._inner.id_to_token(token)
        if piece is None:
            return b""
        if self._is_byte_level:
            return bytes(_BYTE_OF[c] for c in piece if c in _BYTE_OF)
        if match := _BYTE_TOKEN.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return piece.replace(_METASPACE, " ").encode()


def _parts(inner: tokenizers.Tokenizer, name: str) -> Any:
    return json.loads(inner.to_str()).get(name)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise BadCheckpoint(f"{file} is not valid JSON ({e}). Fetch it again.") from e
    return value if isinstance(value, dict) else {}


def _content(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, turned around. Source: Radford et al., 2019, encoder.py."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _byte_alphabet()
