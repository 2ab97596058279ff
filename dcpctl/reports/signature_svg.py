"""A resume as an SVG picture, with nothing but text and paths in it."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from dcpctl.errors import printable
from dcpctl.reports.signature_series import Series, series_of
from dcpctl.reports.words import step as step_text
from dcpctl.signature.engine import Result

_WIDTH, _PANEL = 860, 230
_LEFT, _RIGHT, _TOP, _BETWEEN, _BOTTOM = 80, 20, 86, 34, 40
#: Share of a panel's height that is left free above and below.
_ROOM = 0.05
_BEFORE, _AFTER, _BAND, _INK, _GRID = "#3465a4", "#cc3d3d", "#8fa6c4", "#333", "#ddd"


def signature_svg(result: Result) -> Iterator[str]:
    """Yield the picture of the gravest resume, line by line."""
    one = result.worst
    panels = list(series_of(result, one)) if one is not None else []
    height = _TOP + max(len(panels), 1) * (_PANEL + _BETWEEN) + _BOTTOM - _BETWEEN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="13" '
        f'fill="{_INK}">\n<rect width="{_WIDTH}" height="{height}" fill="white"/>\n'
    )
    if one is None or not panels:
        yield _text(_LEFT, 28, "no resume to draw", size=15)
    else:
        title = f"{one.evidence.unit} {step_text(one.resume.step)}: {one.verdict.name}"
        yield _text(_LEFT, 26, f"{title}, confidence {one.verdict.confidence}", size=16)
        yield _text(_LEFT, 46, one.verdict.sentence)
        for number, series in enumerate(panels):
            yield from _panel(
                series, _TOP + number * (_PANEL + _BETWEEN), number == len(panels) - 1
            )
    yield "</svg>\n"


def _panel(series: Series, top: int, last: bool) -> Iterator[str]:
    start, stop = series.steps
    bottom = top + _PANEL

    def x(step: float) -> float:
        return _LEFT + (step - start) / (stop - start) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return bottom - series.height(value, _ROOM) * _PANEL

    for tick in _powers(*series.bounds) if series.logarithmic else _ticks(*series.bounds):
        yield _line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), _GRID)
        yield _text(_LEFT - 8, y(tick) + 4, f"{tick:.4g}", anchor="end")
    yield _text(_LEFT, top - 8, series.label, weight="bold")
    course, sigma = series.change.course, 2 * series.change.course.sigma
    ends = (series.first, stop)
    band = [(x(s), y(course.at(s) + sigma)) for s in ends]
    band += [(x(s), y(course.at(s) - sigma)) for s in reversed(ends)]
    corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in band)
    yield f'<polygon points="{corners}" fill="{_BAND}" fill-opacity="0.35"/>\n'
    yield _line(x(series.first), top, x(series.first), bottom, _INK, dash="4 3")
    for points, color in ((series.before, _BEFORE), (series.after, _AFTER)):
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.4"/>\n'
    yield _line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, _INK)
    if last:
        for step in _ticks(start, stop):
            yield _text(x(step), bottom + 18, step_text(step), anchor="middle")
        yield _text(
            _LEFT, bottom + 34,
            "blue before, red after the resume; the band is two sigma around what was expected",
            size=11,
        )  # fmt: skip


def _ticks(low: float, high: float) -> list[float]:
    """Some round numbers between two others."""
    rough = (high - low) / 6
    power = 10.0 ** floor(log10(rough))
    size = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [number * size for number in range(ceil(low / size), floor(high / size) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between two numbers, some six at most."""
    first, last = ceil(log10(low)), floor(log10(high))
    return [10.0**power for power in range(first, last + 1, (last - first) // 6 + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, color: str, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{color}"{dashes}/>\n'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">{escape(printable(text))}</text>\n'
    )
