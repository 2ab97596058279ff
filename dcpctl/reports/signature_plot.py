"""A resume drawn with characters."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from dcpctl.reports.blocks import Block, Heading, Literal, Paragraph
from dcpctl.reports.signature_series import Series, series_of
from dcpctl.reports.words import step as step_text
from dcpctl.signature.engine import Result

_WIDTH, _HEIGHT = 64, 9
_MARGIN = 9


def plot_blocks(result: Result) -> Iterator[Block]:
    """Draw the gravest resume: a column for each few steps, its median as `o`, its range as `:`."""
    one = result.worst
    drawn = list(series_of(result, one)) if one is not None else []
    if one is None or not drawn:
        yield Paragraph("There is nothing to draw.")
        return
    yield Heading(f"around {one.evidence.unit} {step_text(one.resume.step)}")
    for series in drawn:
        label = series.label + (", logarithmic" if series.logarithmic else "")
        yield Literal(label + "\n" + "\n".join(_drawn(series)))
    yield Paragraph("o median of a few rows, : their range, - what the rows before lead to expect")


def _drawn(series: Series) -> Iterator[str]:
    low, high = series.bounds
    start, stop = series.steps
    split = min(max(round((series.first - start) / (stop - start) * _WIDTH), 1), _WIDTH - 1)
    cells = [[" "] * (_WIDTH + 1) for _ in range(_HEIGHT)]

    def line(value: float) -> int:
        return round((1 - series.height(value)) * (_HEIGHT - 1))

    # Expectation first, so that points go over it; then the bar that the resume is.
    for place in range(split + 1, _WIDTH + 1):
        step = series.first + (place - split) / (_WIDTH - split) * (stop - series.first)
        expected = series.change.course.at(step)
        if low <= expected <= high:
            cells[line(expected)][place] = "-"
    for row in cells:
        row[split] = "|"
    for points, begin, width, origin, span in (
        (series.before, 0, split, start, series.first - start),
        (series.after, split + 1, _WIDTH - split, series.first, stop - series.first),
    ):
        columns: dict[int, list[float]] = {}
        for step, value in points:
            place = begin + min(int((step - origin) / (span or 1) * width), width - 1)
            columns.setdefault(place, []).append(value)
        for place, values in columns.items():
            for height in range(line(max(values)), line(min(values)) + 1):
                cells[height][place] = ":"
            cells[line(median(values))][place] = "o"
    for number, row in enumerate(cells):
        label = {0: f"{high:.3g}", _HEIGHT - 1: f"{low:.3g}"}.get(number, "")
        yield f"{label:>{_MARGIN}} {''.join(row).rstrip()}"
    texts = (step_text(start), step_text(series.first), step_text(stop))
    axis = texts[0].ljust(max(split - len(texts[1]) // 2, len(texts[0]) + 1)) + texts[1]
    yield " " * (_MARGIN + 1) + axis.ljust(_WIDTH + 1 - len(texts[2])) + " " + texts[2]
