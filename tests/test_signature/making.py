"""Logs made of numbers, for tests."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from dcpctl.signature.engine import Diagnosis, diagnose
from dcpctl.signature.log import Log

Range = tuple[float, float]

#: The report that dcpctl began with, in its own words: around step 8,500 the loss went from 1.1-1.3
#: to 2.0-2.5 and grad norm from 0.5-0.7 to 0.2-0.3, lr and throughput as before.
SEED_BEFORE = {"loss": (1.1, 1.3), "grad_norm": (0.5, 0.7)}
SEED_AFTER = {"loss": (2.0, 2.5), "grad_norm": (0.2, 0.3)}


def seed_rows(
    after: dict[str, Range], *, apart: int = 1, start: int = 8_000, resume: int = 8_500
) -> Iterator[dict[str, float]]:
    """Rows drawn from ranges, `before` up to the resume and `after` from it on."""
    draw = random.Random(8_500)
    for step in range(start, resume + (resume - start), apart):
        ranges = SEED_BEFORE if step < resume else after
        yield {
            "step": step,
            **{name: draw.uniform(*bounds) for name, bounds in ranges.items()},
            "lr": 3e-4,
            "throughput": draw.uniform(99_000, 101_000),
        }


def log_of(rows: Sequence[dict[str, float]], resume: int | None) -> Log:
    """A log in which another process writes from row number `resume` on."""
    log = Log()
    for number, row in enumerate(rows):
        log.append(row, int(resume is not None and number >= resume))
    log.finish()
    return log


def run(
    loss: Sequence[float],
    grad_norm: Sequence[float] | None = None,
    lr: Sequence[float] | None = None,
    *,
    resume: int,
    window: int = 100,
) -> Diagnosis:
    """Diagnose columns, the second process beginning at row `resume`."""
    rows = [
        {
            "step": float(number),
            "loss": value,
            **({} if grad_norm is None else {"grad_norm": grad_norm[number]}),
            "lr": 1e-3 if lr is None else lr[number],
        }
        for number, value in enumerate(loss)
    ]
    (one,) = diagnose(log_of(rows, resume), window=window).diagnoses
    return one


def noisy(level: float, count: int, seed: int, scatter: float = 0.05) -> list[float]:
    """A level with normal scatter, a share of it."""
    draw = random.Random(seed)
    return [level * (1 + draw.gauss(0, scatter)) for _ in range(count)]
