"""One frozen object of settings, from flags > INHOUSE_* > inhouse.toml > defaults.

The only reader of the environment. Every value remembers where it came from, for `inhouse config --origin`.
"""

from __future__ import annotations

import math
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from inhouse.errors import InvalidRequest

PREFIX = "INHOUSE_"
FILE_NAME = "inhouse.toml"

LONGEST_LEASE_S = 3600.0
"""What lease_s may be at most: a lease that ends later than that was written by another clock, and counts as over."""


def without_password(value: str) -> str:
    """A URL's password as ***; any other text as it is."""
    scheme, found, rest = value.partition("://")
    login, at, host = rest.rpartition("@")
    if not (found and at and ":" in login):
        return value
    return f"{scheme}://{login.partition(':')[0]}:***@{host}"


def user_data_dir() -> Path:
    """Where a user's programs keep data on this system."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "inhouse"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "inhouse"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "inhouse"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose. Defaults are the ones we would use ourselves."""

    data_dir: Path = field(default_factory=user_data_dir)
    """Database, artifacts, scratch and logs all live below it."""
    database_url: str = ""
    """Empty: SQLite in data_dir. Or postgresql://user:password@host/name"""
    host: str = "127.0.0.1"
    """Loopback: reachable from elsewhere only when an operator says so."""
    port: int = 8420
    allowed_hosts: str = ""
    """Names, separated by commas, that requests may use for this server besides its own: those of a proxy before it."""
    trusted_templates: str = ""
    """SHA-256 digests, separated by commas, of chat templates that are rendered in the engine's own process, besides
    those that come with the package; every other one is rendered in a process with limits."""
    base: str = "seedling"
    """The base that serves and is tuned when nobody names one: the embedded one."""
    device: str = "auto"
    """Which device the workshop uses; auto is the first that discovery finds."""
    dtype: str = "auto"
    """float32 or bfloat16 for frozen weights; auto goes by size and device."""
    kernels: str = "auto"
    """Implementations of the model's operations: auto, reference (plain torch), or names in order, such as triton."""
    quantization: str = "none"
    """none, int8 or int4 for a served base: fewer bits are faster and smaller, and answer a little differently."""
    lookup: str = "auto"
    """auto, on or off: whether few sequences guess their next tokens from what stood before and from what a format
    forces, which saves steps where a reply repeats its prompt and changes no token; auto is on a processor."""
    graphs: str = "auto"
    """auto: decoding steps are captured once and replayed where the device can. off: never. plain: filled up to the
    same shapes and run without capture, to look for a fault."""
    threads: int = 0
    """CPU threads a job may use; 0 is all of this machine's."""
    worker: bool = True
    """Whether the server starts a worker on this machine. Off where workers run elsewhere."""
    serve_slots: int = 2
    """Bases held resident at once by one worker."""
    tune_slots: int = 1
    """Tuning jobs run at once by one worker: more would share the same cores."""
    lease_s: float = 15.0
    """A job whose worker is silent this long is given to another. Heartbeats come three times as often."""
    load_wait_s: float = 60.0
    """How long a request waits for its base to load before it gets 503 model_loading."""
    linger_s: float = 60.0
    """How long a server started by Client() outlives its last client and job."""
    drain_s: float = 20.0
    """How long running streams may take to end after SIGTERM."""
    max_body_bytes: int = 10 * 2**20
    """Largest JSON body. Files have a limit of their own."""
    max_file_bytes: int = 512 * 2**20
    max_line_bytes: int = 4 * 2**20
    """Longest row of a training file."""
    max_running: int = 32
    """Sequences an engine decodes at once."""
    max_queued: int = 1024
    """Requests that may wait for an engine before 503 engine_overloaded."""
    requests_per_minute: int = 0
    """Requests that one project may send in a minute before 429; 0 is any number."""
    tokens_per_minute: int = 0
    """Tokens, of prompts and answers, that one project may use in a minute before 429; 0 is any number."""
    concurrent_requests: int = 0
    """Inference requests of one project that may be under way at once before 429; 0 is any number."""
    tokens_per_month: int = 0
    """Tokens that one project may use in a calendar month (UTC) before 429 insufficient_quota; 0 is any number."""
    cache_tokens: int = 0
    """Tokens the paged cache holds; 0 is four full contexts, or max_running short ones, whichever is more."""
    adapter_rows: int = 0
    """Rank rows that a device has for adapters, those of all that are on it together; 0 is 1024."""
    idle_reader_s: float = 4.0
    """A client that reads nothing this long while text waits for it is disconnected."""
    webhook_hosts: str = ""
    """Hosts, separated by commas, that webhooks may be sent to: names, *.names or addresses, each with a port or
    without. Empty: none, so webhooks are off."""
    log_level: str = "info"
    log_format: str = "auto"
    """json: one object a line. text: for people. auto: text on a terminal, JSON elsewhere."""
    min_free_bytes: int = 64 * 2**20
    """/ready says no while the disk of the data folder has less room; 0 never does."""

    @property
    def database(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'inhouse.db'}"

    @property
    def arena_rows(self) -> int:
        """Rank rows that a device has for adapters, with the default filled in: 64 adapters of rank 16, twice what the
        default max_running can use in one step."""
        return self.adapter_rows or 1024

    @property
    def most_pinned_rows(self) -> int:
        """Rank rows that pinned adapters may take together: half, the rest is for whoever comes."""
        return self.arena_rows // 2

    @property
    def artifacts_dir(self) -> Path:
        return self.data_dir / "artifacts"

    @property
    def scratch_dir(self) -> Path:
        """Jobs' own folders: checkpoints and unfinished adapters."""
        return self.data_dir / "jobs"

    @property
    def run_dir(self) -> Path:
        """What lives only while a server runs: its address, its local key."""
        return self.data_dir / "run"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    def serving(self) -> dict[str, str]:
        """Those that decide how a base is served, by name."""
        return {
            name: getattr(self, name) for name in ("dtype", "quantization", "lookup", "kernels", "graphs")
        }

    def environment(self) -> dict[str, str]:
        """The variables that make another process load these same settings."""
        return {
            PREFIX + f.name.upper(): str(
                int(value) if isinstance(value := getattr(self, f.name), bool) else value
            )
            for f in fields(self)
        }


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one setting's value came from."""

    name: str
    value: Any
    source: str


def load(flags: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings with every layer applied. Raises InvalidRequest naming the setting, the layer and the cure."""
    return _resolve(flags, environ)[0]


def origins(
    flags: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
) -> list[Origin]:
    """Each setting's value and the layer that decided it, in declaration order."""
    settings, sources = _resolve(flags, environ)
    return [
        Origin(f.name, getattr(settings, f.name), sources.get(f.name, "default")) for f in fields(settings)
    ]


def _resolve(
    flags: Mapping[str, Any] | None, environ: Mapping[str, str] | None
) -> tuple[Settings, dict[str, str]]:
    environ = os.environ if environ is None else environ
    types = get_type_hints(Settings)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}

    def take(name: str, raw: Any, source: str) -> None:
        if name not in types:
            known = ", ".join(types)
            raise InvalidRequest(
                f"{source}: there is no setting {name!r}. Known settings: {known}.", param=name
            )
        values[name] = _convert(name, types[name], raw, source)
        sources[name] = source

    file = _config_file(environ)
    if file is not None:
        for name, raw in _read_toml(file).items():
            take(name, raw, str(file))
    for variable, raw in environ.items():
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and name not in ("config", "url", "api_key"):
            take(name, raw, variable)
    for name, raw in (flags or {}).items():
        if raw is not None:
            take(name, raw, f"--{name.replace('_', '-')}")
    settings = replace(Settings(), **values)
    if not 0 < settings.lease_s <= LONGEST_LEASE_S:
        raise InvalidRequest(
            f"{sources.get('lease_s', 'default')}: lease_s = {settings.lease_s} is not above 0 and at most "
            f"{LONGEST_LEASE_S:.0f}. Take some ten seconds.",
            param="lease_s",
        )
    if any(mark in settings.webhook_hosts for mark in ("/", "@")):
        raise InvalidRequest(
            f"{sources.get('webhook_hosts', 'default')}: webhook_hosts = {settings.webhook_hosts!r} holds more than "
            "hosts. Give names or addresses, as in ci.example.com, *.corp.example, 10.1.2.3:9000.",
            param="webhook_hosts",
        )
    return settings, sources


def _config_file(environ: Mapping[str, str]) -> Path | None:
    """INHOUSE_CONFIG, else inhouse.toml in this folder or in the data folder."""
    if named := environ.get(PREFIX + "CONFIG"):
        if not Path(named).is_file():
            raise InvalidRequest(
                f"INHOUSE_CONFIG names {named}, which is no file. Create it or unset the variable."
            )
        return Path(named)
    data_dir = Path(environ.get(PREFIX + "DATA_DIR") or user_data_dir())
    return next((p for p in (Path(FILE_NAME), data_dir / FILE_NAME) if p.is_file()), None)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InvalidRequest(f"{file} is not valid TOML: {e}. Mend the line it names.") from e


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
_CHOICES = {
    "dtype": ("auto", "float32", "bfloat16"),
    "quantization": ("none", "int8", "int4"),
    "lookup": ("auto", "on", "off"),
    "graphs": ("auto", "off", "plain"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("auto", "json", "text"),
}
"""Settings that are one of a few words."""
_MOST = {"port": 65535}
"""The highest value of a setting that has one. The lowest of every number is 0."""


def _convert(name: str, kind: type, raw: Any, source: str) -> Any:
    try:
        if kind is Path:
            return Path(raw).expanduser().absolute()
        if kind is bool and isinstance(raw, str):
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                raw.lower()
            ]
        value = kind(raw)
    except (TypeError, ValueError, KeyError) as e:
        wanted = _KINDS.get(kind, kind.__name__)
        raise InvalidRequest(f"{source}: {name} = {raw!r} is not {wanted}.", param=name) from e
    if value not in _CHOICES.get(name, (value,)):
        *others, last = _CHOICES[name]
        raise InvalidRequest(f"{source}: {name} = {raw!r} is not {', '.join(others)} or {last}.", param=name)
    if isinstance(value, int | float) and not 0 <= value <= _MOST.get(name, math.inf):
        most = f" to {_MOST[name]}" if name in _MOST else " or more"
        raise InvalidRequest(f"{source}: {name} = {value} is out of range. Give 0{most}.", param=name)
    return value


def client_url() -> str | None:
    """INHOUSE_URL: the server that Client() uses when none is named."""
    return os.environ.get(PREFIX + "URL")


def client_key() -> str | None:
    """INHOUSE_API_KEY: the key that Client() uses when none is given."""
    return os.environ.get(PREFIX + "API_KEY")
