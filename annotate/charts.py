"""Small line charts: lines as inline SVG stretched to their box, labels as HTML that never scales.

Pure functions; colours and sizes come from classes in static/style.css.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import Any

from annotate.language import translate

Point = tuple[float, float]

MAX_POINTS = 240  # more than the pixels of a small chart show
HAIR = 0.05  # of a step between two grid lines; a curve may stick out by it
SMOOTHED_OVER = 5  # steps; one batch of a small run says little


def line_chart(
    title: str,
    points: Sequence[Point],
    *,
    x_max: float,
    tone: str,
    lang: str,
    floor: float | None = None,
    ceiling: float | None = None,
    reference: float | None = None,
) -> str:
    """One curve, its last value as the headline. `reference` is a dashed line, as for chance."""
    raw = [p for p in points if all(map(math.isfinite, p))]
    points, raw = thin(smooth(raw)), thin(raw)
    last = f"{points[-1][1]:.2f}" if points else "–"
    head = (
        f'<figcaption><span>{escape(title)}</span><b class="{tone}">{escape(last)}</b></figcaption>'
    )
    described = escape(_described(title, last, points, lang))
    body = _empty()
    if points:
        x_max = max(x_max, points[-1][0], 1.0)
        body = _plot(points, raw, x_max, tone, floor, ceiling, reference)
        body += _steps(points[-1][0], x_max, lang)
    return (
        f'<figure class="chart">{head}<div class="plot" role="img" aria-label="{described}">'
        f"{body}</div></figure>"
    )


def _described(title: str, last: str, points: Sequence[Point], lang: str) -> str:
    if not points:
        return translate(lang, "research.chart.empty", title=title)
    step = f"{points[-1][0]:g}"
    return translate(lang, "research.chart.at", title=title, value=last, step=step)


def thin(points: Sequence[Point]) -> list[Point]:
    """At most MAX_POINTS of them, always with the last one."""
    every = math.ceil(len(points) / MAX_POINTS) or 1
    kept = list(points[::every])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Means over the last few values: of every one for long curves, of none for very short ones."""
    width = min(SMOOTHED_OVER, len(points) // 3) or 1
    means = (fmean(y for _, y in points[max(0, i - width + 1) : i + 1]) for i in range(len(points)))
    return [(x, mean) for (x, _), mean in zip(points, means, strict=True)]


def ticks(low: float, high: float) -> list[float]:
    """Three to six round values that enclose low and high."""
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 3))
    step = next(step * m for m in (1, 2, 5, 10) if span / (step * m) <= 4.001)
    first, last = math.floor(low / step + HAIR), math.ceil(high / step - HAIR)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def curve(lines: Sequence[dict[str, Any]], key: str) -> list[Point]:
    """(step, value) of the lines that have this value."""
    return [
        (float(line["step"]), float(line[key]))
        for line in lines
        if _number(line.get("step")) and _number(line.get(key))
    ]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plot(
    points: Sequence[Point],
    raw: Sequence[Point],
    x_max: float,
    tone: str,
    floor: float | None,
    ceiling: float | None,
    reference: float | None,
) -> str:
    values = [y for _, y in (*points, *raw)] + [
        v for v in (floor, ceiling, reference) if v is not None
    ]
    marks = ticks(min(values), max(values))
    low, high = marks[0], marks[-1]

    def down(value: float) -> float:
        return 100 * (high - value) / (high - low)

    def polyline(curve: Sequence[Point], kind: str) -> str:
        path = " ".join(f"{100 * x / x_max:.2f},{down(y):.2f}" for x, y in curve)
        return f'<polyline class="{kind} {tone}" points="{path}"/>'

    lines = "".join(f'<path class="grid" d="M0 {down(m):.2f}H100"/>' for m in marks)
    if reference is not None:
        lines += f'<path class="reference" d="M0 {down(reference):.2f}H100"/>'
    if len(points) > 1:
        lines += polyline(raw, "curve raw") + polyline(points, "curve")
    x, y = 100 * points[-1][0] / x_max, down(points[-1][1])
    # a line without length: its round ends make a dot that the stretched picture cannot deform
    lines += f'<path class="dot {tone}" d="M{x:.2f} {y:.2f}h0"/>'
    labels = "".join(f'<span class="y" style="top:{down(m):.2f}%">{m:g}</span>' for m in marks)
    return _svg(lines) + labels


def _svg(lines: str) -> str:
    return f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>'


def _steps(now: float, x_max: float, lang: str) -> str:
    """0, the step of the last value, and the planned end, without overlap."""
    share = now / x_max
    marks = '<span class="x" style="left:0">0</span>'
    if share >= 1:
        step = escape(translate(lang, "research.chart.step", step=f"{now:g}"))
        return marks + f'<span class="x end" style="right:0">{step}</span>'
    if 0.15 < share < 0.82:
        marks += f'<span class="x now" style="left:{100 * share:.2f}%">{now:g}</span>'
    return marks + f'<span class="x end" style="right:0">{x_max:g}</span>'


def _empty() -> str:
    return _svg("".join(f'<path class="grid" d="M0 {y}H100"/>' for y in (0, 50, 100)))
