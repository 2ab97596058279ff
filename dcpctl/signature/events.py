"""TensorBoard event files, through TensorBoard's own reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcpctl.errors import MissingDependency, NotALog, quote
from dcpctl.signature.log import Record, Rows

FORM = "TensorBoard"
#: What every writer has in the names of its event files.
MARK = "tfevents"


def event_files(directory: Path) -> list[Path]:
    """Return the event files of a directory and those below it, the oldest first.

    Their names hold the time at which the process began: `events.out.tfevents.1700000000.host`.
    """
    found = [path for path in directory.rglob(f"*{MARK}*") if path.is_file()]
    return sorted(found, key=lambda path: (path.name.partition(MARK)[2], str(path)))


def read_events(path: Path, rows: Rows) -> None:
    """Read the scalars of an event file.

    Raises:
        MissingDependency: TensorBoard is not installed.
        NotALog: it is no event file.
    """
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    except ImportError:
        raise MissingDependency(
            f"{quote(path)} is a TensorBoard event file, and tensorboard is not installed",
            hint="pip install 'dcpctl[tensorboard]', or pip install tensorboard",
        ) from None
    rows.source.form = FORM
    try:
        rows.take(_records(EventFileLoader(str(path))))
    except Exception as error:  # TensorBoard's reader has no class of its own for this
        if not rows.source.rows:
            raise NotALog(f"{quote(path)} is no event file: {_first_line(error)}") from None
        rows.source.bad += 1  # cut off while a process wrote it


def _records(loader: Any) -> Iterator[Record]:
    for event in loader.Load():
        for value in event.summary.value:
            scalar = _scalar(value)
            if scalar is not None:
                yield {"step": event.step, "time": event.wall_time, value.tag: scalar}


def _scalar(value: Any) -> float | None:
    """The number of a summary value: plain until TensorBoard 1, a tensor of one element since."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor":
        return None
    from tensorboard.util.tensor_util import make_ndarray

    # TensorBoard would fill the whole shape with the one number: a few bytes become gigabytes.
    if any(dim.size != 1 for dim in value.tensor.tensor_shape.dim):
        return None
    try:
        array = make_ndarray(value.tensor)
        return float(array.reshape(-1)[0]) if array.size == 1 else None
    except (TypeError, ValueError):
        return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
