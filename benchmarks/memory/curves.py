"""The picture of learning: recall over the CPU-seconds spent, of the rivals, the memory and the router. It draws, and
measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

COLOURS = {
    "lora": "#c2410c",
    "abstain": "#a16207",
    "full": "#7c3aed",
    "memory": "#0f766e",
    "router": "#1d4ed8",
}
WORDS = {"lora": "LoRA", "abstain": "LoRA, refusals and replay", "full": "full tuning", "memory": "memory"}
PANEL, HEIGHT, LEFT, TOP, PLOT = 360, 330, 44, 40, 220

Points = Sequence[tuple[float, float]]
"""(CPU-seconds, percent)"""


def picture(
    banks: Sequence[Mapping[str, Any]],
    tuned: Sequence[Mapping[str, Any]],
    router: Sequence[Mapping[str, Any]],
) -> str:
    """An SVG: a panel for each number of facts that rivals were tuned on, and one for the router.

    banks, tuned  finished runs of `bank` and `weights`; router  its `curve` of seconds and recall
    """
    panels = []
    tuned = [line for line in tuned if line.get("curve")]  # the base learns nothing
    for n in sorted({line["n"] for line in tuned}):
        end = max(line["cpu_s"] for line in tuned if line["n"] == n)
        series: list[tuple[str, str, Points]] = []
        for method in WORDS:
            runs = [line["curve"] for line in tuned if (line["n"], line["method"]) == (n, method)]
            for which in ("taught", "unseen") if runs else ():
                series.append((method, which, _middle(runs, which)))
        known = [line for line in banks if line["n"] == n]
        for which in ("taught", "unseen") if known else ():
            share = 100 * mean(line["auto"]["rows"][f"{which} right"]["share"] for line in known)
            index = mean(line["index_cpu_s"] for line in known)
            series.append(("memory", which, [(index, share), (end, share)]))
        panels.append(_panel(f"{n:,} facts", series, end))
    seconds = [(0.0, 0.0), *((at["seconds"], 100 * at["recall"]) for at in router)]
    panels.append(
        _panel("the router, once a base: new relations", [("router", "unseen", seconds)], seconds[-1][0])
    )
    drawn = "\n".join(
        f'<g transform="translate({i * PANEL},0)">{panel}</g>' for i, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL * len(panels)} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="12">\n<title>Recall over CPU-seconds of learning</title>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{drawn}\n{_legend()}\n</svg>\n'
    )


def _middle(runs: Sequence[Sequence[Mapping[str, float]]], which: str) -> Points:
    """The mean of several runs that were looked at equally often."""
    looks = zip(*runs, strict=False)
    return [
        (0.0, 0.0),
        *((mean(at["cpu_s"] for at in look), 100 * mean(at[which] for at in look)) for look in looks),
    ]


def _panel(title: str, series: Sequence[tuple[str, str, Points]], end: float) -> str:
    wide = PANEL - LEFT - 16

    def place(point: tuple[float, float]) -> str:
        return f"{LEFT + wide * min(1.0, point[0] / end):.1f},{TOP + PLOT * (1 - point[1] / 100):.1f}"

    parts = [f'<text x="{LEFT}" y="{TOP - 16}" font-weight="bold">{title}</text>']
    for percent in (0, 50, 100):
        y = TOP + PLOT * (1 - percent / 100)
        parts.append(f'<path d="M{LEFT},{y}h{wide}" stroke="#d4d4d4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{percent} %</text>')
    for method, which, points in series:
        dash = "" if which == "taught" else ' stroke-dasharray="5 4"'
        line = " ".join(map(place, points))
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{COLOURS[method]}" stroke-width="2"{dash}/>'
        )
    parts.append(
        f'<text x="{LEFT + wide}" y="{TOP + PLOT + 18}" text-anchor="end">{end:.0f} CPU-seconds</text>'
    )
    return "".join(parts)


def _legend() -> str:
    parts, x = [], float(LEFT)
    for method, words in WORDS.items():
        parts.append(f'<circle cx="{x}" cy="{HEIGHT - 28}" r="5" fill="{COLOURS[method]}"/>')
        parts.append(f'<text x="{x + 10}" y="{HEIGHT - 24}">{words}</text>')
        x += 34 + 7 * len(words)
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">as taught: a whole line; other wordings: dashes</text>')
    return "".join(parts)
