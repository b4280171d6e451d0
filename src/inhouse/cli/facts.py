"""`inhouse facts`: a memory's facts, seen and changed from a terminal or by programs.

It knows the client's Facts and words for people. Where MODEL is left out, the newest memory is meant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.terminal import (
    Json,
    ask,
    can_ask,
    choose_conflict,
    connect,
    err,
    json_line,
    one_of,
    out,
    speaks_json,
    table,
    told,
    when,
)
from inhouse.errors import FactConflict, InvalidRequest, ModelNotFound

if TYPE_CHECKING:
    from inhouse.client.client import Client
    from inhouse.client.facts import Fact, FactChange, Facts

app = typer.Typer(
    name="facts",
    help="A memory's facts: see, change, forget and explain them. Without MODEL: the newest memory.",
    no_args_is_help=True,
)

KINDS = ("text", "number", "date", "code")
ON_CONFLICT = ("replace", "coexist")
TEXT_IN_A_TABLE = 60

Model = Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)]
Coexist = Annotated[
    bool, typer.Option("--coexist", help="Let another fact with the same words stand beside it.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many.")]


def _words(metavar: str) -> Any:
    return typer.Argument(metavar=f"[MODEL] {metavar}", show_default=False)


@app.command("list")
@told
def list_all(model: Model = None, limit: Limit = None, as_json: Json = False) -> None:
    """Every fact of a memory."""
    with connect() as client:
        _show(_memory(client, model).list(limit), as_json)


@app.command()
@told
def search(words: Annotated[list[str], _words("TEXT")], limit: Limit = None, as_json: Json = False) -> None:
    """Facts that have TEXT somewhere: in a wording, a name or the answer."""
    model, (text,) = _apart(words, "TEXT")
    with connect() as client:
        _show(_memory(client, model).search(text, limit), as_json)


@app.command()
@told
def add(
    words: Annotated[list[str] | None, _words("QUESTION ANSWER")] = None,
    file: Annotated[Path | None, typer.Option(help="Many at once: JSONL, CSV or Parquet.")] = None,
    wording: Annotated[list[str] | None, typer.Option(help="Another way of asking. Repeatable.")] = None,
    subject: Annotated[str | None, typer.Option(help="Whom or what it is about.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name of it. Repeatable.")] = None,
    kind: Annotated[str | None, typer.Option(help="text, number, date or code.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it stands.")] = None,
    span: Annotated[str | None, typer.Option(help="The words there that say it.")] = None,
    access: Annotated[list[str] | None, typer.Option(help="A group that may see it. Repeatable.")] = None,
    valid_from: Annotated[str | None, typer.Option(help="A date, or date and time (UTC).")] = None,
    valid_until: Annotated[str | None, typer.Option(help="A date, or date and time (UTC).")] = None,
    on_conflict: Annotated[
        str | None, typer.Option(help="replace or coexist, where another answer is there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Teach a memory one more fact, or those of a file. It holds from the next question on."""
    fields = _fields(wording, subject, alias, kind, source, span, access, valid_from, valid_until)
    one_of("--on-conflict", on_conflict, ON_CONFLICT)
    if file is not None:
        if fields or len(words or ()) > 1:
            raise InvalidRequest(
                "--file brings its facts' fields itself. Give it and MODEL alone.", param="file"
            )
        model = words[0] if words else None
    else:
        model, (question, answer) = _apart(words or (), "QUESTION", "ANSWER")
    rows = file or [{"question": question, "answer": answer, **fields}]
    with connect() as client:
        facts = _memory(client, model)
        try:
            made = facts.add_many(rows, on_conflict=on_conflict)  # type: ignore[arg-type]
        except FactConflict as e:
            if on_conflict or (chosen := choose_conflict(e.message)) is None:
                raise
            made = facts.add_many(rows, on_conflict=chosen)
        _show_outcomes(made, as_json)


@app.command()
@told
def edit(
    words: Annotated[list[str], _words("FACT")],
    question: Annotated[str | None, typer.Option(help="A new question.")] = None,
    answer: Annotated[str | None, typer.Option(help="A new answer.")] = None,
    wording: Annotated[list[str] | None, typer.Option(help="In place of all wordings. Repeatable.")] = None,
    subject: Annotated[str | None, typer.Option(help="Whom or what it is about.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="In place of all aliases. Repeatable.")] = None,
    kind: Annotated[str | None, typer.Option(help="text, number, date or code.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it stands.")] = None,
    span: Annotated[str | None, typer.Option(help="The words there that say it.")] = None,
    access: Annotated[list[str] | None, typer.Option(help="In place of all groups. Repeatable.")] = None,
    valid_from: Annotated[str | None, typer.Option(help="A date, or date and time (UTC).")] = None,
    valid_until: Annotated[str | None, typer.Option(help="A date, or date and time (UTC).")] = None,
    coexist: Coexist = False,
    clear: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Empty a field, such as access. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a fact: a new version, which holds from the next question on."""
    changes = _fields(wording, subject, alias, kind, source, span, access, valid_from, valid_until)
    changes |= {k: v for k, v in (("question", question), ("answer", answer)) if v is not None}
    lists = ("wordings", "aliases", "access")
    changes |= {name: [] if name in lists else None for name in clear or ()}
    changes |= {"on_conflict": "coexist"} if coexist else {}
    model, (id,) = _apart(words, "FACT")
    with connect() as client:
        _show([_memory(client, model).edit(id, **changes)], as_json)


@app.command()
@told
def forget(
    words: Annotated[list[str], _words("FACT")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a fact, its old versions, and the uploaded file it came from. This cannot be undone."""
    model, (id,) = _apart(words, "FACT")
    with connect() as client:
        facts = _memory(client, model)
        if not yes and not can_ask():
            raise InvalidRequest("Forgetting cannot be undone. Say that you mean it: --yes")
        if not yes:
            fact = facts.get(id)
            table(("question", "answer"), [[fact.question, fact.answer]])
            if fact.file:
                err.print(
                    f"The uploaded file {fact.file} holds it and goes too.", markup=False, soft_wrap=True
                )
            if ask("Forget it for good? [y/N]") not in ("y", "yes"):
                err.print("Nothing has changed.")
                return
        files = facts.forget(id)
        if speaks_json(as_json):
            json_line({"fact": id, "forgotten": True, "files_deleted": [*files]})
            return
        err.print(f"{id} is forgotten.", markup=False, soft_wrap=True)
        for file in files:
            err.print(f"The uploaded file {file} is deleted.", markup=False, soft_wrap=True)


@app.command()
@told
def explain(words: Annotated[list[str], _words("QUESTION")], as_json: Json = False) -> None:
    """What a memory sees in QUESTION, which facts come near, and why it answers as it does."""
    model, (question,) = _apart(words, "QUESTION")
    with connect() as client:
        seen = _memory(client, model).explain(question)
        if speaks_json(as_json):
            json_line(seen)
        else:
            table(("", "seen"), _flat(seen))


@app.command()
@told
def history(
    words: Annotated[list[str] | None, typer.Argument(metavar="[MODEL] [FACT]", show_default=False)] = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Who changed what and when, newest first: of one fact, or of the whole memory."""
    given = list(words or ())
    if len(given) > 2:
        raise typer.BadParameter("give at most a MODEL and a FACT")
    with connect() as client:
        # One word is a memory's name, if one is called so, and else a fact's id.
        is_model = len(given) == 2 or (bool(given) and any(m.name == given[0] for m in client.models()))
        facts = _memory(client, given.pop(0) if is_model else None)
        _show_changes(facts.history(given[0] if given else None, limit), as_json)


@app.command()
@told
def rollback(
    words: Annotated[list[str], _words("FACT VERSION")], coexist: Coexist = False, as_json: Json = False
) -> None:
    """Give a fact the content of an earlier version, as a new version."""
    model, (id, version) = _apart(words, "FACT", "VERSION")
    if not version.isdecimal():
        raise typer.BadParameter(
            f"VERSION is a number, not {version!r}; `inhouse facts history FACT` lists them"
        )
    with connect() as client:
        back = _memory(client, model).rollback(id, int(version), on_conflict="coexist" if coexist else None)
        _show([back], as_json)


@app.command()
@told
def export(
    model: Model = None,
    to: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("facts.jsonl"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write every fact to a JSONL file, which `inhouse tune` reads."""
    if to.exists() and not force:
        raise InvalidRequest(f"{to} is there already. Name another with --out, or add --force.", param="out")
    with connect() as client:
        count = _memory(client, model).export(to)
        if speaks_json(as_json):
            json_line({"file": str(to), "facts": count})
        else:
            out.print(f"{count:,} facts are in {to}", markup=False, soft_wrap=True)


@app.command()
@told
def report(
    model: Model = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Write report.md, report.json and report.svg there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How well a memory recalls its facts, and what it cost, as measured when it was made."""
    with connect() as client:
        facts = _memory(client, model)
        if to is not None:
            for path in facts.save_report(to):
                if speaks_json(as_json):
                    json_line({"file": str(path)})
                else:
                    out.print(str(path), markup=False, soft_wrap=True)
            return
        found = facts.report()
        if speaks_json(as_json):
            json_line(found)
            return
        from rich.markdown import Markdown

        from inhouse.client.report import report_markdown

        out.print(Markdown(report_markdown(found, model=facts.model, questions=facts.questions(found))))


# ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────


def _memory(client: Client, model: str | None) -> Facts:
    """The facts of the memory that is named, or of the newest."""
    if model is not None:
        return client.model(model).facts
    memories = [m for m in client.models() if m.kind == "memory"]
    if not memories:
        raise ModelNotFound("There is no memory yet. Make one: inhouse tune FILE --memory")
    newest = max(memories, key=lambda m: m.created_at)
    if err.is_terminal:
        err.print(f"{newest.name}:", style="dim", markup=False, soft_wrap=True)
    return newest.facts


def _apart(words: Sequence[str], *names: str) -> tuple[str | None, Sequence[str]]:
    """The model's name, if it stands before the others, and the others."""
    if len(words) == len(names):
        return None, words
    if len(words) == len(names) + 1:
        return words[0], words[1:]
    raise typer.BadParameter(f"give {' '.join(names)}, or MODEL {' '.join(names)}")


def _fields(
    wording: list[str] | None,
    subject: str | None,
    alias: list[str] | None,
    kind: str | None,
    source: str | None,
    span: str | None,
    access: list[str] | None,
    valid_from: str | None,
    valid_until: str | None,
) -> dict[str, Any]:
    """The fields that options gave."""
    given = {
        "wordings": wording or None,
        "subject": subject,
        "aliases": alias or None,
        "kind": one_of("--kind", kind, KINDS),
        "source": source,
        "span": span,
        "access": access or None,
        "valid_from": _time("--valid-from", valid_from),
        "valid_until": _time("--valid-until", valid_until),
    }
    return {name: value for name, value in given.items() if value is not None}


def _time(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        raise InvalidRequest(
            f"{option} {text} is no date. Write 2026-01-31 or 2026-01-31T12:00.", param=option.lstrip("-")
        ) from None


def _show(facts: Iterable[Fact], as_json: bool) -> None:
    if speaks_json(as_json):
        for fact in facts:
            json_line(_line(fact))
        return
    found = [*facts]
    if not found:
        out.print("none", style="dim")
        return
    rows = (
        [
            f.id,
            f.question,
            f.answer if f.status == "live" else f"{f.answer} ({f.status.replace('_', ' ')})",
            str(f.version),
            f.author,
            when(f.updated_at),
        ]
        for f in found
    )
    table(("fact", "question", "answer", "version", "by", "at"), rows)


def _show_outcomes(facts: Sequence[Fact], as_json: bool) -> None:
    if speaks_json(as_json):
        for fact in facts:
            json_line(_line(fact))
        return
    table(("fact", "question", "answer", ""), ([f.id, f.question, f.answer, f.outcome or ""] for f in facts))


def _show_changes(changes: Iterable[FactChange], as_json: bool) -> None:
    if speaks_json(as_json):
        for change in changes:
            json_line(dataclasses.asdict(change))
        return
    rows = (
        [c.fact, c.action, str(c.version), c.author, when(c.at), str((c.fact_then or {}).get("answer", ""))]
        for c in changes
    )
    table(("fact", "change", "version", "by", "at", "answer then"), rows)


def _line(fact: Fact) -> dict[str, Any]:
    """A fact as a JSON line: what is not there is left out."""
    return {k: v for k, v in dataclasses.asdict(fact).items() if v not in (None, (), "")}


def _flat(value: Any, path: str = "") -> Iterable[list[str]]:
    """What is nested, as lines of a path and a value."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, (list, tuple)) and any(isinstance(inner, (Mapping, list)) for inner in value):
        for i, inner in enumerate(value, 1):
            yield from _flat(inner, f"{path} {i}")
    elif isinstance(value, (list, tuple)):
        yield [path, ", ".join(map(str, value))]
    else:
        yield [path, f"{value:.3f}" if isinstance(value, float) else str(value)]
