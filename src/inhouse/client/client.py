"""The client: a server's address, and from there its data sets, jobs and models.

It knows nouns and verbs; how requests travel is http.py's business, where a local server is local.py's.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload
from urllib.parse import quote

from inhouse import settings as settings_module
from inhouse.client import local
from inhouse.client.admin import Admin
from inhouse.client.dataset import AsFacts, Dataset, upload
from inhouse.client.generate import generate
from inhouse.client.http import Address, Http
from inhouse.client.job import Job
from inhouse.client.model import Model, pin, unpin
from inhouse.client.replies import Reply, Summary
from inhouse.client.webhooks import Webhooks
from inhouse.errors import InvalidRequest, ModelNotFound
from inhouse.rows import Source
from inhouse.settings import Settings

if TYPE_CHECKING:
    from inhouse.client.migrate import Migration

Auto = Literal["auto"]


class Client:
    """A connection to one server: the one named, or one on this machine, which is started if none runs.

        client = Client()                                    # this machine
        client = Client("http://host:8420", api_key="sk-…")  # another

    INHOUSE_URL and INHOUSE_API_KEY stand for the two arguments where they are not given.

    A server started here outlives the client a while (setting linger_s) and every job it holds. Where a server of this
    machine dies meanwhile, the client starts another one, which serves bases as that one did.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, settings: Settings | None = None
    ) -> None:
        self.settings = settings or settings_module.load()
        url = url or (None if settings else settings_module.client_url())
        api_key = api_key or settings_module.client_key()
        if url:
            self._http = Http(Address(url, api_key))
            return
        here = local.Here(self.settings)

        def locate() -> Address:
            found = here.find_or_start().address
            return replace(found, key=api_key) if api_key else found

        self._http = Http(locate(), relocate=locate)

    @property
    def url(self) -> str:
        """The server's address; `url + "/v1"` is the base_url for OpenAI's clients."""
        return self._http.address.url.removesuffix("/").removesuffix("/v1")

    @property
    def api_key(self) -> str | None:
        """The key in use. Where none was given, a local server's, which is made anew each time it starts."""
        return self._http.address.key

    @property
    def admin(self) -> Admin:
        """Keys, projects, usage and the audit log, for those who hold an admin key."""
        return Admin(self._http)

    @property
    def webhooks(self) -> Webhooks:
        """Who is told when jobs and batches end, for those who hold an admin key."""
        return Webhooks(self._http)

    def dataset(self, source: Source, *, name: str | None = None) -> Dataset:
        """Check rows and keep them on the server. Raises BadRows, with lines and cures, before any upload."""
        return upload(self._http, source, name=name)

    def tune(
        self,
        data: Source | Dataset,
        *,
        base: str | Path | None = None,
        validation: Source | Dataset | None = None,
        method: Literal["auto", "lora", "full", "memory"] = "auto",
        epochs: int | Auto = "auto",
        batch_size: int | Auto = "auto",
        rank: int | Auto = "auto",
        alpha: float | Auto = "auto",
        learning_rate: float | Auto = "auto",
        learning_rate_multiplier: float | Auto = "auto",
        experts: bool = False,
        unknown: Literal["refuse", "base"] = "refuse",
        on_conflict: Literal["replace", "coexist"] | None = None,
        seed: int = 0,
        suffix: str = "",
    ) -> Job:
        """Start teaching a base the rows of `data`: a path, dicts, (question, reply) pairs, or a Dataset.

        "auto" makes a memory of short questions with short answers, and an adapter of all else; the job's
        events say which, and why. A knob of training, such as `epochs`, makes it an adapter.

        Of a memory: `experts` also trains each fact's own, `unknown` is what a question of its kind gets
        that no fact answers ("I don't know.", or the base as it is), `on_conflict` what two answers to one
        question mean; without it they are an error.

        `base` is a registered base's name, a Hugging Face id, or a folder of the server's machine (which
        needs an admin key); None is the server's default. Rows are checked here, before anything is sent.
        """
        knobs = {
            "n_epochs": epochs,
            "batch_size": batch_size,
            "learning_rate_multiplier": learning_rate_multiplier,
            "x_rank": rank,
            "x_alpha": alpha,
            "x_learning_rate": learning_rate,
        }
        how = _method(
            method,
            {name: value for name, value in knobs.items() if value != "auto"},
            {"x_experts": experts, "x_unknown": unknown, "x_on_conflict": on_conflict},
        )
        if method == "memory" and validation is not None:
            raise _unfit({"validation": validation}, *_NOT_TRAINED)
        facts = AsFacts(on_conflict) if method == "memory" else None
        training = data if isinstance(data, Dataset) else upload(self._http, data, facts=facts)
        if validation is not None and not isinstance(validation, Dataset):
            validation = upload(self._http, validation, param="validation_file")
        body: dict[str, Any] = {
            "model": _base_name(base) if base is not None else self._default_base(),
            "training_file": training.id,
            "seed": seed,
            "method": how,
        }
        if validation is not None:
            body["validation_file"] = validation.id
        if suffix:
            body["suffix"] = suffix
        reply = self._http.call("POST", "/v1/fine_tuning/jobs", body=body, idempotency_key=uuid.uuid4().hex)
        return Job(self._http, reply)

    def job(self, id: str) -> Job:
        """A job by its id. Raises NotFound."""
        return Job(self._http, self._http.call("GET", f"/v1/fine_tuning/jobs/{quote(id, safe='')}"))

    def jobs(self) -> Iterator[Job]:
        """Every job, newest first."""
        return (Job(self._http, item) for item in self._pages("/v1/fine_tuning/jobs"))

    def model(self, name: str | None = None) -> Model:
        """A model by its name; without one the server's default base. Raises ModelNotFound."""
        name = name or self._default_base()
        return Model.from_wire(self._http, self._http.call("GET", f"/v1/models/{quote(name, safe='')}"))

    def models(self) -> list[Model]:
        """Every model that this key may ask."""
        return [Model.from_wire(self._http, card) for card in self._http.call("GET", "/v1/models")["data"]]

    @overload
    def generate(
        self,
        rows: Source,
        *,
        model: str | None = None,
        out: None = None,
        system: str | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        concurrency: int | None = None,
        keep_input: bool = False,
        strict: bool = False,
        **sampling: Any,
    ) -> Iterator[Reply]: ...

    @overload
    def generate(
        self,
        rows: Source,
        *,
        model: str | None = None,
        out: str | Path,
        restart: bool = False,
        progress: bool = True,
        on_progress: Callable[[Summary], object] | None = None,
        system: str | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        concurrency: int | None = None,
        keep_input: bool = False,
        strict: bool = False,
        **sampling: Any,
    ) -> Summary: ...

    def generate(self, rows: Source, *, model: str | None = None, **how: Any) -> Iterator[Reply] | Summary:
        """Every row's reply, in the rows' order, as many at once as the engines decode.

            for reply in client.generate(["Who?", "When?"], model=name): ...
            client.generate("in.jsonl", model=name, out="out.jsonl")

        A row is a text, {"prompt"}, {"question"}, {"messages": [...]} or a line of a file for OpenAI's
        batches. What a row says itself goes before what is said here, except for a `model` named here. Without
        one a row's own answers, else the default base. A row that cannot be answered has an `error`; with
        `strict` it ends the run.

        Without `out` the iterator is lazy: few rows are read ahead of what is taken, and closing it ends the
        run. With `out` the replies are written, a line each, and a Summary comes back; the same call again
        goes on behind the last whole line, and `restart` begins anew. On a terminal there is a bar, unless
        `on_progress` is given, which gets a Summary now and then.

        `concurrency` lowers or raises how many are under way, never above what the server takes;
        `keep_input` repeats each row beside its reply; `sampling` takes what the API takes.
        """
        name = model or self._default_base()
        return generate(self._http, rows, name, is_named=model is not None, **how)

    def migrate_openai(
        self,
        folder: str | Path,
        *,
        base: str | None = None,
        bases: Mapping[str, str] | None = None,
        jobs: Sequence[str] = (),
        rows: Literal["stop", "drop"] = "stop",
        hyperparameters: Literal["keep", "auto"] = "keep",
        retry: bool = False,
        wait: bool = False,
        on_news: Callable[[str], object] = lambda text: None,
    ) -> Migration:
        """Start here what OpenAI trained: the jobs that a folder describes, on the files that lie in it.

        `base` takes the place of OpenAI's models (None: the server's default), `bases` of some of them by name; `jobs`
        are OpenAI's ids of those to move (none: all that have ended there). Rows that cannot be trained keep their job
        from being started, or with rows="drop" are left out. A job that an earlier run started is found again and not
        started twice; `retry` starts again what failed here. With `wait` it returns when all are over.

        The report, with every change and why, is written into the folder. `inhouse.client.migrate.plan` tells the same
        and sends nothing; `inhouse.client.migrate.download` brings jobs and files from OpenAI's API.
        """
        from inhouse.client import migrate

        found = migrate.read_folder(Path(folder))
        choices = migrate.Choices(
            base or self._default_base(), bases or {}, rows, hyperparameters, frozenset(jobs)
        )
        plans = migrate.plan(found, choices, on_file=lambda name: on_news(f"checking {name}"))
        migration = migrate.Migration(found, plans, server=self.url)
        return migrate.carry_out(self._http, self.jobs(), migration, retry=retry, wait=wait, on_news=on_news)

    def create_key(
        self, name: str, *, role: Literal["member", "admin"] = "member", groups: Sequence[str] = ()
    ) -> str:
        """A new API key for programs that are no Client(): shown here and never again. Needs an admin key.

        `groups` are those whose facts it may see, beside the facts that everybody sees. `admin.create_key` takes
        more: project, scopes, expiry, limits.
        """
        body = {"name": name, "role": role} | ({"groups": [*groups]} if groups else {})
        return str(self._http.call("POST", "/v1/x/keys", body=body)["key"])

    def pin(self, name: str) -> Model:
        """Keep a tuned model's adapter on the device, however long nobody asks it. Needs an admin key.

        `name` without its last part (`ft:base:project:suffix`) is all versions of the model: the newest is pinned, and
        each that is published takes the pin over. Returns the model that is pinned now. Pinned adapters take at most
        half of the device's rank rows; one more is refused.
        """
        return self.model(pin(self._http, name))

    def unpin(self, name: str) -> Sequence[str]:
        """Take a pin back, by the name it was made with. Needs an admin key.

        Returns the names by which its model is still pinned.
        """
        return unpin(self._http, name)

    def close(self) -> None:
        """Let go of the connections. The server and its jobs go on."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _default_base(self) -> str:
        """The base that the server names as its default: this machine's settings are not the server's."""
        for card in self._http.call("GET", "/v1/models")["data"]:
            if card.get("x_default"):
                return str(card["id"])
        raise ModelNotFound("This server names no default base. Name one: client.models() lists them.")

    def _pages(self, path: str) -> Iterator[Mapping[str, Any]]:
        params: dict[str, Any] = {"limit": 100}
        while True:
            page = self._http.call("GET", path, params=params)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            params["after"] = page["data"][-1]["id"]


_OF_A_MEMORY = {"x_experts": False, "x_unknown": "refuse", "x_on_conflict": None}
"""What only a memory has, and what it is when nobody says."""

_NOT_TRAINED = ("is of no use to a memory, whose facts are kept and not trained", 'method="lora"')


def _method(kind: str, knobs: Mapping[str, Any], memory: Mapping[str, Any]) -> dict[str, Any]:
    """The wire's `method`. Raises InvalidRequest for what would be ignored: a memory has no rank."""
    of_memory = {name: value for name, value in memory.items() if value != _OF_A_MEMORY[name]}
    if kind == "memory" and knobs:
        raise _unfit(knobs, *_NOT_TRAINED)
    is_trained = kind in ("lora", "full") or bool(knobs)
    if is_trained and of_memory:
        raise _unfit(of_memory, "is of use to a memory only", 'method="memory" and no knob of training')
    if is_trained:
        chosen = {**knobs} if kind == "auto" else {**knobs, "x_method": kind}
        return {"type": "supervised", "supervised": {"hyperparameters": chosen}}
    return {"type": kind, kind: {"hyperparameters": of_memory}}


def _unfit(given: Mapping[str, Any], why: str, instead: str) -> InvalidRequest:
    name = next(iter(given)).removeprefix("x_").removeprefix("n_")
    return InvalidRequest(f"{name} {why}. Leave it out, or use {instead}.", param=name)


def _base_name(base: str | Path) -> str:
    """A folder as its absolute path; a name or id as it is, even when a folder of that name lies here."""
    text = os.fspath(base)
    is_path = isinstance(base, Path) or text.startswith((".", "~", os.sep))
    if not is_path:
        return text
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise InvalidRequest(
            f"base: there is no folder {folder}. Check the path, or give a model's id.", param="base"
        )
    return str(folder.resolve())
