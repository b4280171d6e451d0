"""The `inhouse` command's verbs: serve, tune, chat, and look at jobs, settings and the machine.

Everything they do, inhouse.client does; only `up` reaches for the server. Each noun has a file of its own.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from inhouse import logs
from inhouse import settings as settings_module
from inhouse.cli import audit, facts, keys, migrate, models, projects, webhooks
from inhouse.cli.backup import backup, restore, verify
from inhouse.cli.generate import generate
from inhouse.cli.status import status
from inhouse.cli.terminal import (
    Json,
    can_ask,
    choose_conflict,
    connect,
    err,
    faults,
    json_line,
    one_of,
    out,
    speaks_json,
    table,
    told,
    when,
    write,
)
from inhouse.cli.usage import usage
from inhouse.cli.waiting import waiting
from inhouse.errors import BadRows, InvalidRequest, JobFailed

if TYPE_CHECKING:
    from inhouse.client.client import Client
    from inhouse.client.job import Job, JobEvent
    from inhouse.client.model import Model
    from inhouse.schema import OnConflict

T = TypeVar("T")

METHODS = ("auto", "lora", "full", "memory")

app = typer.Typer(
    name="inhouse",
    help="Own your language models: teach an open base your data, and serve it in-house.\n\n"
    "Commands use the server at INHOUSE_URL (with INHOUSE_API_KEY), or one on this machine, started if need be.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(facts.app)
app.add_typer(models.app)
for group in (keys, projects, audit, migrate, webhooks):
    app.add_typer(group.app)


def main() -> None:
    """The console script."""
    app()


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
@told
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
    quantization: Annotated[
        str | None,
        typer.Option(help="int8 or int4: a served base's numbers in fewer bits, none: as they are."),
    ] = None,
    lookup: Annotated[
        str | None, typer.Option(help="on or off: guess tokens that repeat what stood before. Default: auto.")
    ] = None,
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
            "quantization": quantization,
            "lookup": lookup,
        }
    )
    try:
        from inhouse.server.main import run
    except ModuleNotFoundError as e:
        raise InvalidRequest(
            f"This installation has no server ({e.name} is missing). Run: pip install 'inhouse[all]'"
        ) from e
    logs.configure(settings.log_level, settings.log_format, "server")

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
@told
def tune(
    file: Annotated[Path, typer.Argument(help="Rows: JSONL, CSV or Parquet.")],
    base: Annotated[str | None, typer.Option(help="A base's name, Hugging Face id or folder.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Rows to measure on, never trained.")] = None,
    method: Annotated[str, typer.Option(help="auto, lora, full or memory.")] = "auto",
    memory: Annotated[bool, typer.Option("--memory", help="Short for --method memory.")] = False,
    experts: Annotated[
        bool, typer.Option("--experts", help="Memory: also train an expert for each fact.")
    ] = False,
    unknown: Annotated[
        str,
        typer.Option(help='Memory: what a question without a fact gets: refuse ("I don\'t know.") or base.'),
    ] = "refuse",
    on_conflict: Annotated[
        str | None, typer.Option(help="Memory: replace or coexist, where one question has two answers.")
    ] = None,
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
    if memory and method not in ("auto", "memory"):
        raise InvalidRequest(
            f"--memory and --method {method} contradict each other. Give one.", param="method"
        )
    method = one_of("--method", "memory" if memory else method, METHODS) or "auto"
    unknown = one_of("--unknown", unknown, ("refuse", "base")) or "refuse"
    on_conflict = one_of("--on-conflict", on_conflict, ("replace", "coexist"))
    with connect() as client:

        def start(on_conflict: str | None) -> Job:
            return client.tune(
                file,
                base=base,
                validation=validation,
                method=method,  # type: ignore[arg-type]
                epochs=_or_auto(epochs),
                batch_size=_or_auto(batch_size),
                rank=_or_auto(rank),
                alpha=_or_auto(alpha),
                learning_rate=_or_auto(learning_rate),
                experts=experts,
                unknown=unknown,  # type: ignore[arg-type]
                on_conflict=on_conflict,  # type: ignore[arg-type]
                seed=seed,
                suffix=suffix,
            )

        def run(on_conflict: str | None) -> None:
            job = start(on_conflict)
            if follow:
                _follow(job, as_json)
            elif speaks_json(as_json):
                json_line(_job_line(job))
            else:
                out.print(f"{job.id} is {job.state}. {job.goes_on}", markup=False, soft_wrap=True)

        try:
            run(on_conflict)
        except (BadRows, JobFailed) as e:
            may_ask = on_conflict is None and method in ("auto", "memory") and e.code == BadRows.code
            if not (may_ask and can_ask() and _only_conflicts(file)):
                raise
            if (chosen := choose_conflict(*faults(e))) is None:
                raise
            run(chosen)


@app.command()
@told
def chat(
    model: Annotated[
        str | None, typer.Argument(help="A model. Default: the newest tuned one, else the base.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="What to ask. Without it: a conversation, or all that is piped in as one prompt."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest word.")] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(help="Longest reply.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same reply.")] = None,
) -> None:
    """Ask a model. `inhouse chat "Who …?"` asks the newest tuned one."""
    with connect() as client:
        chosen, prompt = _model_and_prompt(client, model, prompt)
        history = [{"role": "system", "content": system}] if system else []
        sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        if seed is not None:
            sampling["seed"] = seed
        if prompt is None and not sys.stdin.isatty():
            prompt = sys.stdin.read()
        if prompt is not None:
            if not prompt.strip():
                raise InvalidRequest(
                    'Nothing is asked: the prompt is empty. Write one, as in: inhouse chat "Who are you?"',
                    param="prompt",
                )
            if err.is_terminal:
                err.print(f"{chosen.name}:", style="dim", markup=False, soft_wrap=True)
            _say([*history, {"role": "user", "content": prompt}], chosen, sampling)
            return
        err.print(f"{chosen.name}. An empty line or Ctrl-D ends.", style="dim", markup=False)
        with suppress(EOFError):
            while asked := err.input("[bold]> [/]").strip():
                history.append({"role": "user", "content": asked})
                history.append({"role": "assistant", "content": _say(history, chosen, sampling)})


app.command()(generate)
for verb in (backup, restore, verify):
    app.command()(verb)
app.command()(usage)
app.command()(status)


@app.command()
@told
def jobs(
    id: Annotated[str | None, typer.Argument(help="One job. Without it: all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show its progress to the end.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop it.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Let it wait, its work so far kept.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let it go on where it was.")] = False,
    as_json: Json = False,
) -> None:
    """Tuning jobs: list them, show one, follow it, pause it, let it go on, cancel it."""
    if id is None and (follow or cancel or pause or resume):
        raise InvalidRequest(
            "--follow, --pause, --resume and --cancel need a job. List them: inhouse jobs", param="id"
        )
    if cancel + pause + resume > 1:
        raise InvalidRequest("--pause, --resume and --cancel contradict each other. Give one.", param="id")
    with connect() as client:
        if id is None:
            found = client.jobs()
            if speaks_json(as_json):
                for job in found:
                    json_line(_job_line(job))
                return
            rows = [
                [j.id, _state(j), j.base, j.model_name or j.error or "", when(j.created_at)] for j in found
            ]
            if not rows:
                err.print(
                    "No jobs. Another project's are shown to its own keys: INHOUSE_API_KEY.", style="dim"
                )
            table(("job", "state", "base", "model or error", "since"), rows)
            return
        job = client.job(id)
        if cancel:
            job.cancel()
        elif pause:
            job.pause()
        elif resume:
            job.resume()
        if follow:
            _follow(job, as_json)
        elif speaks_json(as_json):
            step = job.newest_step()
            json_line(_job_line(job) | (dict(step.data) if step else {}))
        else:
            from inhouse.client import progress

            step = job.newest_step()
            at = progress.facts(step) if step and not job.is_over else {}
            pairs = {**_job_line(job), **at, **job.details.get("hyperparameters", {})}
            table(
                ("", job.id), ([key, str(value)] for key, value in pairs.items() if value not in (None, ""))
            )


@app.command()
@told
def doctor(as_json: Json = False) -> None:
    """Look at this machine: Python, settings, data folder, server, devices."""
    from inhouse.client.doctor import examine

    marks = {"good": ("ok", "green"), "note": ("note", "yellow"), "bad": ("bad", "red")}
    is_well = True
    for finding in examine(settings_module.load()):
        is_well = is_well and finding.state != "bad"
        if speaks_json(as_json):
            json_line(
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
@told
def config(
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """The settings in force: flags, INHOUSE_*, inhouse.toml, defaults, in this order."""
    found = settings_module.origins()
    shown = [(o.name, settings_module.without_password(str(o.value)), o.source) for o in found]
    if speaks_json(as_json):
        for name, value, source in shown:
            json_line({"name": name, "value": value} | ({"source": source} if origin else {}))
        return
    table(("setting", "value", "source")[: 2 + origin], (list(line[: 2 + origin]) for line in shown))


# ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────


def _only_conflicts(file: Path) -> bool:
    """Whether all that is wrong with a file's facts is that some questions have two answers."""
    from inhouse import rows
    from inhouse.rows.facts import from_rows

    def problems(on_conflict: OnConflict | None) -> bool:
        return bool(from_rows(rows.read(file), name=file.name, on_conflict=on_conflict).problems)

    return problems(None) and not problems("coexist")


def _or_auto(value: T | None) -> T | Literal["auto"]:
    """What was asked for, be it 0, which the server then refuses by name."""
    return "auto" if value is None else value


def _model_and_prompt(client: Client, model: str | None, prompt: str | None) -> tuple[Model, str | None]:
    """With one argument: a model of that name, or else a question for the default model."""
    found = client.models()
    if model is not None and (prompt is not None or any(m.name == model for m in found)):
        return client.model(model), prompt
    tuned = [m for m in found if m.kind != "base" and "step" not in m.about]  # no checkpoints
    return max(tuned, key=lambda m: m.created_at) if tuned else client.model(), model


def _say(messages: list[dict[str, str]], model: Model, sampling: dict[str, Any]) -> str:
    """Write the reply as it comes, and for people what it rests on; returns it whole."""
    with waiting(model) as stop:

        def write_piece(piece: str) -> None:
            stop()
            write(piece)

        answer = model.ask(messages, on_piece=write_piece, **sampling)
    write("\n")
    if err.is_terminal:
        for cited in answer.facts:
            doubt = "" if cited.verified else ", not verified"
            where = f": {cited.source}" if cited.source else ""
            err.print(f"  {cited.id}{where} ({cited.mode}{doubt})", style="dim", markup=False, soft_wrap=True)
    return answer.text


def _follow(job: Job, as_json: bool) -> None:
    if speaks_json(as_json):
        model = job.wait(on_event=lambda event: json_line(_event_line(event)))
        json_line({"type": "model", "job": job.id, "model": model.name})
        return
    model = job.wait(progress=True)
    out.print(f"model: [bold]{model.name}[/]", soft_wrap=True)
    out.print(f"ask it: inhouse chat '{model.name}'", style="dim", soft_wrap=True)
    if model.kind == "memory":
        out.print(f"its facts: inhouse facts list '{model.name}'", style="dim", soft_wrap=True)
        out.print(
            f"how well it recalls them: inhouse facts report '{model.name}'", style="dim", soft_wrap=True
        )


def _event_line(event: JobEvent) -> dict[str, Any]:
    about = {
        "type": event.type,
        "level": event.level,
        "created_at": event.created_at,
        "message": event.message,
    }
    return {**about, **event.data}


def _state(job: Job) -> str:
    """The state, for people: a paused job is queued on the wire."""
    return str(job.details["x_state"]) if job.is_paused else job.state


def _job_line(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "state": _state(job),
        "base": job.base,
        "model": job.model_name,
        "error": job.error,
        "created_at": job.created_at,
    }
