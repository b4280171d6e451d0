"""The `inhouse` command: verbs over the client, and words for people.

It knows terminals. Everything it does, inhouse.client does; only `up` reaches for the server.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from inhouse import settings as settings_module
from inhouse.errors import MOST_PROBLEMS, BadRows, InhouseError, InvalidRequest

if TYPE_CHECKING:
    from inhouse.client.client import Client
    from inhouse.client.job import Job, JobEvent
    from inhouse.client.model import Model

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

app = typer.Typer(
    name="inhouse",
    help="Own your language models: teach an open base your data, and serve it in-house.\n\n"
    "Commands use the server at INHOUSE_URL (with INHOUSE_API_KEY), or one on this machine, started if need be.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# Without emoji=False rich draws a plant in the middle of "ft:seedling:default:…".
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON line for each event or item.")]


def main() -> None:
    """The console script."""
    app()


def _told(verb: Callable[P, R]) -> Callable[P, R]:
    """Errors as one red line and exit code 1; Ctrl-C as a word on what goes on and exit code 130."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except InhouseError as e:
            for fault in _faults(e):
                err.print(f"error: {fault}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as e:
            for note in getattr(e, "__notes__", ("Stopped. Nothing on the server has changed.",)):
                err.print(f"\n{note}", markup=False, soft_wrap=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has gone: nobody is left to tell
            raise typer.Exit(1) from None

    return run


def _faults(error: InhouseError) -> list[str]:
    """What is wrong, one thing a line: a file's rows may have many faults."""
    if not isinstance(error, BadRows):
        return [error.message]
    faults = [f"{error.name} {problem}" for problem in error.problems]
    is_cut = len(faults) == MOST_PROBLEMS
    return (
        [*faults, f"{error.name}: the first {MOST_PROBLEMS} problems; mend them first."] if is_cut else faults
    )


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        out.print(f"inhouse {version('inhouse')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Say which release this is.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command()
@_told
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(help="A base's name, Hugging Face id or folder. The first is the default."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    database_url: Annotated[str | None, typer.Option(help="postgresql://… instead of SQLite.")] = None,
    device: Annotated[str | None, typer.Option(help="Device the worker uses.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads a job may use; 0 is all.")] = None,
) -> None:
    """Serve models and tune them, until Ctrl-C."""
    bases: list[str | None] = list(base) if base else [None]
    settings = settings_module.load(
        {
            "host": host,
            "port": port,
            "base": bases[0],
            "data_dir": data_dir,
            "database_url": database_url,
            "device": device,
            "threads": threads,
        }
    )
    try:
        from inhouse.server.main import run
    except ModuleNotFoundError as e:
        raise InvalidRequest(
            f"This installation has no server ({e.name} is missing). Run: pip install 'inhouse[all]'"
        ) from e
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")

    def ready(url: str) -> None:
        out.print(f"Serving at [bold]{url}[/]   (base_url for OpenAI's clients: {url}/v1)", soft_wrap=True)
        out.print(
            f"Data in {settings.data_dir}. On this machine Client() needs no key. Ctrl-C stops.",
            soft_wrap=True,
        )

    run(
        settings,
        more_bases=[name for name in bases[1:] if name],
        say=lambda text: out.print(text.strip(), style="bold yellow", markup=False, soft_wrap=True),
        on_ready=ready,
    )


@app.command()
@_told
def tune(
    file: Annotated[Path, typer.Argument(help="Rows: JSONL, CSV or Parquet.")],
    base: Annotated[str | None, typer.Option(help="A base's name, Hugging Face id or folder.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Rows to measure on, never trained.")] = None,
    method: Annotated[str, typer.Option(help="auto, lora or full.")] = "auto",
    epochs: Annotated[
        int | None, typer.Option(help="Times through the rows. Default: chosen for you.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Its scale is alpha / rank.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    suffix: Annotated[str, typer.Option(help="A word in the new model's name.")] = "",
    follow: Annotated[bool, typer.Option(help="Wait and show progress.")] = True,
    as_json: Json = False,
) -> None:
    """Teach a base the rows of FILE."""
    if method not in ("auto", "lora", "full"):
        raise InvalidRequest(f"--method {method} is none of auto, lora, full.", param="method")
    with _client() as client:
        job = client.tune(
            file,
            base=base,
            validation=validation,
            method=method,  # type: ignore[arg-type]
            epochs=_or_auto(epochs),
            batch_size=_or_auto(batch_size),
            rank=_or_auto(rank),
            alpha=_or_auto(alpha),
            learning_rate=_or_auto(learning_rate),
            seed=seed,
            suffix=suffix,
        )
        if follow:
            _follow(job, as_json)
        elif _speaks_json(as_json):
            _line(_job_line(job))
        else:
            out.print(f"{job.id} is {job.state}. {job.goes_on}", markup=False, soft_wrap=True)


@app.command()
@_told
def chat(
    model: Annotated[
        str | None, typer.Argument(help="A model. Default: the newest tuned one, else the base.")
    ] = None,
    prompt: Annotated[str | None, typer.Argument(help="What to ask. Without it: a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest word.")] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(help="Longest reply.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same reply.")] = None,
) -> None:
    """Ask a model. `inhouse chat "Who …?"` asks the newest tuned one."""
    with _client() as client:
        chosen, prompt = _model_and_prompt(client, model, prompt)
        history = [{"role": "system", "content": system}] if system else []
        sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        if seed is not None:
            sampling["seed"] = seed
        if prompt is None and not sys.stdin.isatty():
            prompt = sys.stdin.read()
        if prompt is not None:
            if err.is_terminal:
                err.print(f"{chosen.name}:", style="dim", markup=False, soft_wrap=True)
            _say([*history, {"role": "user", "content": prompt}], chosen, sampling)
            return
        err.print(f"{chosen.name}. An empty line or Ctrl-D ends.", style="dim", markup=False)
        with suppress(EOFError):
            while asked := err.input("[bold]> [/]").strip():
                history.append({"role": "user", "content": asked})
                history.append({"role": "assistant", "content": _say(history, chosen, sampling)})


@app.command()
@_told
def models(
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Remove a tuned model.")] = None,
    as_json: Json = False,
) -> None:
    """The models you may ask."""
    with _client() as client:
        if delete is not None:
            client.model(delete).delete()
            err.print(f"{delete} is removed.", markup=False, soft_wrap=True)
            return
        found = client.models()
        if _speaks_json(as_json):
            for m in found:
                _line({"name": m.name, "kind": m.kind, "base": m.base, "created_at": m.created_at})
            return
        rows = ([m.name, m.kind, m.base or "", _when(m.created_at)] for m in found)
        _table(("model", "kind", "base", "since"), rows)


@app.command()
@_told
def jobs(
    id: Annotated[str | None, typer.Argument(help="One job. Without it: all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show its progress to the end.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop it.")] = False,
    as_json: Json = False,
) -> None:
    """Tuning jobs: list them, show one, follow it, cancel it."""
    if id is None and (follow or cancel):
        raise InvalidRequest("--follow and --cancel need a job. List them: inhouse jobs", param="id")
    with _client() as client:
        if id is None:
            found = client.jobs()
            if _speaks_json(as_json):
                for job in found:
                    _line(_job_line(job))
                return
            rows = (
                [j.id, j.state, j.base, j.model_name or j.error or "", _when(j.created_at)] for j in found
            )
            _table(("job", "state", "base", "model or error", "since"), rows)
            return
        job = client.job(id)
        if cancel:
            job.cancel()
        if follow:
            _follow(job, as_json)
        elif _speaks_json(as_json):
            step = job.newest_step()
            _line(_job_line(job) | (dict(step.data) if step else {}))
        else:
            from inhouse.client import progress

            step = job.newest_step()
            at = progress.facts(step) if step and not job.is_over else {}
            pairs = {**_job_line(job), **at, **job.details.get("hyperparameters", {})}
            _table(
                ("", job.id), ([key, str(value)] for key, value in pairs.items() if value not in (None, ""))
            )


@app.command()
@_told
def doctor(as_json: Json = False) -> None:
    """Look at this machine: Python, settings, data folder, server, devices."""
    from inhouse.client.doctor import examine

    marks = {"good": ("ok", "green"), "note": ("note", "yellow"), "bad": ("bad", "red")}
    is_well = True
    for finding in examine(settings_module.load()):
        is_well = is_well and finding.state != "bad"
        if _speaks_json(as_json):
            _line(
                {"what": finding.what, "state": finding.state, "found": finding.found, "cure": finding.cure}
            )
            continue
        mark, colour = marks[finding.state]
        out.print(f"{mark:>4}", style=colour, end="  ")
        out.print(f"{finding.what}: {finding.found}", markup=False, soft_wrap=True)
        if finding.cure:
            out.print(f"      {finding.cure}", style="dim", markup=False, soft_wrap=True)
    if not is_well:
        raise typer.Exit(1)


@app.command()
@_told
def config(
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """The settings in force: flags, INHOUSE_*, inhouse.toml, defaults, in this order."""
    found = settings_module.origins()
    shown = [(o.name, _without_password(str(o.value)), o.source) for o in found]
    if _speaks_json(as_json):
        for name, value, source in shown:
            _line({"name": name, "value": value} | ({"source": source} if origin else {}))
        return
    _table(("setting", "value", "source")[: 2 + origin], (list(line[: 2 + origin]) for line in shown))


# ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────


def _or_auto(value: T | None) -> T | Literal["auto"]:
    """What was asked for, be it 0, which the server then refuses by name."""
    return "auto" if value is None else value


def _client() -> Client:
    from inhouse.client import local
    from inhouse.client.client import Client

    if settings_module.client_url():
        return Client()
    if local.find(settings_module.load()) is None:
        err.print("Starting a server on this machine …", style="dim")
    return Client()


def _model_and_prompt(client: Client, model: str | None, prompt: str | None) -> tuple[Model, str | None]:
    """With one argument: a model of that name, or else a question for the default model."""
    found = client.models()
    if model is not None and (prompt is not None or any(m.name == model for m in found)):
        return client.model(model), prompt
    tuned = [m for m in found if m.kind != "base"]
    return max(tuned, key=lambda m: m.created_at) if tuned else client.model(), model


def _say(messages: list[dict[str, str]], model: Model, sampling: dict[str, Any]) -> str:
    """Write the reply as it comes; returns it whole."""
    pieces: list[str] = []
    with err.status(
        "waiting for the first word; a base that rests is loaded first", spinner="line"
    ) as status:
        for piece in model.chat(messages, stream=True, **sampling):
            if not pieces:
                status.stop()
            pieces.append(piece)
            _write(piece)
    _write("\n")
    return "".join(pieces)


def _follow(job: Job, as_json: bool) -> None:
    if _speaks_json(as_json):
        model = job.wait(on_event=lambda event: _line(_event_line(event)))
        _line({"type": "model", "job": job.id, "model": model.name})
        return
    model = job.wait(progress=True)
    out.print(f"model: [bold]{model.name}[/]", soft_wrap=True)
    out.print(f"ask it: inhouse chat '{model.name}'", style="dim", soft_wrap=True)


def _speaks_json(as_json: bool) -> bool:
    return as_json or not out.is_terminal


def _line(value: dict[str, Any]) -> None:
    _write(json.dumps(value, ensure_ascii=False) + "\n")


def _write(text: str) -> None:
    """Text as it is; on a terminal without the control characters that could move its cursor or worse."""
    if out.is_terminal:
        text = "".join(c for c in text if c.isprintable() or c in "\n\t")
    sys.stdout.write(text)
    sys.stdout.flush()


def _event_line(event: JobEvent) -> dict[str, Any]:
    about = {
        "type": event.type,
        "level": event.level,
        "created_at": event.created_at,
        "message": event.message,
    }
    return {**about, **event.data}


def _job_line(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "state": job.state,
        "base": job.base,
        "model": job.model_name,
        "error": job.error,
        "created_at": job.created_at,
    }


def _table(header: Iterable[str], rows: Iterable[list[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=i == 0)  # the first is what one copies
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    out.print(table)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M") if seconds else ""


def _without_password(value: str) -> str:
    """A URL's password as ***."""
    scheme, found, rest = value.partition("://")
    login, at, host = rest.rpartition("@")
    if not (found and at and ":" in login):
        return value
    return f"{scheme}://{login.partition(':')[0]}:***@{host}"


if __name__ == "__main__":
    main()
