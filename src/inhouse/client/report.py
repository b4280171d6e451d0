"""A memory's report for people: Markdown with its tables, and a picture of how recall and loss went.

It knows the shape of a report, and asks no server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

WORDINGS = (("taught", "taught wordings"), ("unseen", "unseen wordings"), ("noisy", "noisy wordings"))
UNKNOWNS = (
    ("far", "a taught question, of a name that is not known"),
    ("near", "a known name, asked what it was not taught"),
    ("look_alike", "a taught question, of a name that is nearly known"),
)

Numbers = Mapping[str, Any]


def report_markdown(
    report: Numbers,
    *,
    model: str | None = None,
    questions: Mapping[str, str] | None = None,
    picture: str | None = None,
) -> str:
    """The report as a page: every share with its count. `questions` are those of facts, by their ids."""
    parts = [f"# {model or 'Memory'}: what it recalls", _lead(report)]
    if picture and report.get("curve"):
        parts.append(
            f"![Recall and loss over time]({picture})\n\nHow the base's router learned, once for all memories on it."
        )
    parts += ["## Recall", _recall(report), "## Unknown questions", _unknown(report)]
    if general := report.get("general"):
        parts += ["## Prompts that have nothing to do with the facts", _general(general)]
    parts += ["## Cost", _cost(report)]
    if experts := report.get("experts"):
        parts += [
            "## Experts",
            _table(("what", "value"), ([_words(k), _cell(v)] for k, v in experts.items())),
        ]
    parts += ["## Facts that are not answered word for word", _retrieval_only(report, questions or {})]
    return "\n\n".join(part for part in parts if part) + "\n"


def recall_rows(report: Numbers) -> list[list[str]]:
    """Wording, right, wrong, refused, of: a row for each kind of wording that was measured."""
    rows = []
    for key, words in WORDINGS:
        if (counts := report.get(key)) and counts.get("of"):
            of = int(counts["of"])
            shares = [_share(counts.get(name), of) for name in ("right", "wrong", "refused")]
            rows.append([words, *shares, str(of)])
    return rows


def unknown_rows(report: Numbers) -> list[list[str]]:
    """Kind of unknown question, answers invented, of: a row for each kind that was measured."""
    found = report.get("unknown") or {}
    return [
        [words, _share(counts.get("invented"), int(counts["of"])), str(int(counts["of"]))]
        for key, words in UNKNOWNS
        if (counts := found.get(key)) and counts.get("of")
    ]


def cost_rows(report: Numbers) -> list[list[str]]:
    """What it took to make, and what a fact weighs."""
    seconds = report.get("seconds") or {}
    rows = [[f"CPU seconds, {_words(name)}", _cell(value)] for name, value in seconds.items()]
    if (size := report.get("bytes_per_fact")) is not None:
        rows.append(["bytes a fact", _cell(size)])
    return rows


def _lead(report: Numbers) -> str:
    words = [f"{int(report.get('facts') or 0):,} facts"]
    if (wordings := report.get("wordings")) is not None:
        words.append(f"{int(wordings):,} wordings")
    if base := report.get("base"):
        words.append(f"base `{base}`")
    if isinstance(made := report.get("made_at"), (int, float)):
        words.append(datetime.fromtimestamp(made).astimezone().strftime("made %Y-%m-%d %H:%M"))
    return ", ".join(words) + "."


def _recall(report: Numbers) -> str:
    table = _table(("asked in", "right", "wrong", "refused", "of"), recall_rows(report))
    return table and (
        f"{table}\n\nRight is the stored answer and nothing less. An unseen wording was taken out before it was asked, "
        "or turned into another shape; a noisy one has slips of the finger, words run together or another case."
    )


def _unknown(report: Numbers) -> str:
    table = _table(("question", "answer invented", "of"), unknown_rows(report))
    return table or "Not measured."


def _general(general: Numbers) -> str:
    of = int(general.get("of") or 0)
    return (
        f"{_share(general.get('untouched'), of)} of {of:,} were left to the base as they are." if of else ""
    )


def _cost(report: Numbers) -> str:
    return _table(("what", "value"), cost_rows(report)) or "Not measured."


def _retrieval_only(report: Numbers, questions: Mapping[str, str]) -> str:
    rows = [
        [
            f"`{item['id']}`",
            questions.get(str(item["id"]), "(forgotten since)"),
            str(item.get("reason") or ""),
        ]
        for item in report.get("retrieval_only") or ()
    ]
    if not rows:
        return "None: each one is."
    return "These reach the model as text before it writes.\n\n" + _table(
        ("fact", "question", "reason"), rows
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [f"| {' | '.join(_one_line(cell) for cell in row)} |" for row in rows]
    if not body:
        return ""
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *body])


def _one_line(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def _share(count: Any, of: int) -> str:
    """A count and its share; never rounded up to all, nor down to none."""
    if count is None:
        return "not counted"
    share = f"{100 * count / of:.1f} %"
    if share == "100.0 %" and count < of:
        share = "over 99.9 %"
    if share == "0.0 %" and count > 0:
        share = "under 0.1 %"
    return f"{int(count):,} ({share})"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    )


# ── the picture ───────────────────────────────────────────────────────────────────────────────────────────

_WIDTH, _HEIGHT = 720, 280
_PANEL_WIDTH, _PANEL_HEIGHT, _TOP = 270, 180, 44
_STYLE = """
  .card { fill: #ffffff } .grid { stroke: #d8dce2 } .axis { stroke: #6b7280 }
  text { fill: #1f2937; font: 12px system-ui, sans-serif } .title { font-weight: 600 }
  .recall { stroke: #0f766e; fill: #0f766e } .loss { stroke: #b45309; fill: #b45309 }
  polyline.recall, polyline.loss { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #15181d } .grid { stroke: #353b45 } .axis { stroke: #9aa3b0 } text { fill: #e5e7eb }
    .recall { stroke: #2dd4bf; fill: #2dd4bf } .loss { stroke: #fbbf24; fill: #fbbf24 }
  }"""


def report_picture_svg(report: Numbers) -> str:
    """Recall and loss while the router learned, side by side; readable on light and dark pages."""
    curve = [point for point in report.get("curve") or () if _is_number(point.get("seconds"))]
    recall = [(p["seconds"], 100 * p["recall"]) for p in curve if _is_number(p.get("recall"))]
    loss = [(p["seconds"], p["loss"]) for p in curve if _is_number(p.get("loss"))]
    until_s = max((p["seconds"] for p in curve), default=1.0) or 1.0
    highest_loss = _round_up(max((value for _, value in loss), default=1.0))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            'aria-label="Recall and loss over time">',
            f"<style>{_STYLE}\n</style>",
            f'<rect class="card" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>',
            *_panel(
                64, "Recall of held-out questions", "recall", recall, until_s, 100.0, lambda v: f"{v:.0f} %"
            ),
            *_panel(424, "Loss", "loss", loss, until_s, highest_loss, lambda v: f"{v:.3g}"),
            "</svg>\n",
        )
    )


def _panel(
    left: int,
    title: str,
    name: str,
    points: Sequence[tuple[float, float]],
    until_s: float,
    highest: float,
    label: Callable[[float], str],
) -> Iterable[str]:
    """One pair of axes with its curve; the y axis begins at 0."""
    bottom = _TOP + _PANEL_HEIGHT
    yield f'<text class="title" x="{left}" y="{_TOP - 16}">{escape(title)}</text>'
    for step in range(5):
        value, y = highest * step / 4, bottom - _PANEL_HEIGHT * step / 4
        yield f'<line class="grid" x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label(value))}</text>'
    for step in range(3):
        x = left + _PANEL_WIDTH * step / 2
        anchor = ("start", "middle", "end")[step]
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{until_s * step / 2:.3g}</text>'
    middle = left + _PANEL_WIDTH / 2
    yield f'<line class="axis" x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<text x="{middle:.1f}" y="{bottom + 38}" text-anchor="middle">CPU seconds</text>'
    if not points:
        yield f'<text x="{middle:.1f}" y="{_TOP + _PANEL_HEIGHT / 2}" text-anchor="middle">not measured</text>'
        return
    placed = [
        (left + _PANEL_WIDTH * s / until_s, bottom - _PANEL_HEIGHT * min(max(v, 0.0), highest) / highest)
        for s, v in points
    ]
    yield f'<polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>'
    x, y = placed[-1]
    yield f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten, so that the axis has round numbers."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value * (1 - 1e-12))
