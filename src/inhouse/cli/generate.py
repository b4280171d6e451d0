"""`inhouse generate`: a file of rows through a model, into a file of replies.

The client does it; here are its options, and how its progress is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from inhouse.cli.terminal import Json, connect, err, json_line, out, speaks_json, told
from inhouse.client.replies import Summary, counted

TELL_EVERY_S = 5.0
"""Between two lines of progress, where nobody sees a bar."""


@told
def generate(
    file: Annotated[Path, typer.Argument(metavar="IN", help="Rows: JSONL, CSV or Parquet.")],
    replies: Annotated[Path, typer.Argument(metavar="OUT", help="Replies: JSONL, a line a row.")],
    model: Annotated[
        str | None,
        typer.Option(help="Who answers. Default: the model that a row names, else the default base."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message for rows without one.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest reply.")] = None,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest word.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same replies.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Rows under way at once. Default: what fills the engines.")
    ] = None,
    keep_input: Annotated[
        bool, typer.Option("--keep-input", help="Repeat each row beside its reply.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row without a reply.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin OUT anew instead of going on.")] = False,
    as_json: Json = False,
) -> None:
    """Answer every row of IN with a model, in order. Run again, it goes on where it stopped."""
    sampling: dict[str, Any] = {} if seed is None else {"seed": seed}
    is_json = speaks_json(as_json)
    with connect() as client:
        made = client.generate(
            file,
            model=model,
            out=replies,
            restart=restart,
            on_progress=_json_lines() if is_json else None,
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
            concurrency=concurrency,
            keep_input=keep_input,
            strict=strict,
            **sampling,
        )
    if is_json:
        json_line({"type": "summary", **made.to_object()})
    else:
        for line in _words(made, replies):
            out.print(line, markup=False, soft_wrap=True)
    if made.errors:
        why = (
            "has no reply: its line says why." if made.errors == 1 else "have no reply: their lines say why."
        )
        err.print(
            f"{made.errors:,} of {counted(made.rows)} {why}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)


def _json_lines() -> Callable[[Summary], None]:
    """Tells how far it is, now and then."""
    told_at = -math.inf

    def tell(made: Summary) -> None:
        nonlocal told_at
        if made.seconds - told_at >= TELL_EVERY_S:
            told_at = made.seconds
            json_line({"type": "progress", **made.to_object()})

    return tell


def _words(made: Summary, replies: Path) -> list[str]:
    from inhouse.client.progress import duration

    before = f", {made.resumed:,} of them from an earlier run" if made.resumed else ""
    tokens = (
        f"{made.prompt_tokens:,} tokens read, {made.completion_tokens:,} written in {duration(made.seconds)} "
        f"({made.tokens_per_second:,.0f} a second)"
    )
    return [f"{replies}: {counted(made.rows)}{before}", tokens]
