"""The recorded runs of `signature_runs` as logs, and what the diagnosis says about each."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl.signature.engine import Diagnosis, diagnose
from dcpctl.signature.log import Log
from dcpctl.signature.verdict import INCONCLUSIVE, LOST_OPTIMIZER, VERDICTS

RECORDED = Path(__file__).resolve().parents[1] / "test_signature" / "recorded.jsonl.gz"
#: Rows of the first process before the save, and all that it wrote.
BEFORE, FIRST_PROCESS = 100, 130


@dataclass(frozen=True)
class Run:
    """A recorded run.

    Attributes:
        regime: name of the model and its training.
        seed: of weights, language and data.
        resume: the first step of the second process.
        truth: the verdict that is right.
        scenario: how it was resumed.
        first: columns of the first process.
        second: columns of the second.
    """

    regime: str
    seed: int
    resume: int
    truth: str
    scenario: str
    first: dict[str, list[float]]
    second: dict[str, list[float]]

    def rows(self, *, abandoned: bool) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield process and row as a logger would write them.

        Args:
            abandoned: with the rows that the first process wrote after the save; without them the
                log goes on as if the first process had ended with the save.
        """
        begin = self.resume - BEFORE
        first = FIRST_PROCESS if abandoned else BEFORE
        for process, columns, step, count in (
            (0, self.first, begin, first),
            (1, self.second, self.resume, len(self.second["loss"])),
        ):
            for row in range(count):
                values = {name: column[row] for name, column in columns.items()}
                yield process, {"step": step + row, **values}

    def log(self, *, abandoned: bool) -> Log:
        """Return the run as a log that was read."""
        log = Log()
        for process, row in self.rows(abandoned=abandoned):
            log.append(row, process)
        log.finish()
        return log

    def diagnosis(self, *, abandoned: bool) -> Diagnosis:
        """Return what dcpctl says about it."""
        (one,) = diagnose(self.log(abandoned=abandoned)).diagnoses
        return one


Found = list[tuple[Run, Diagnosis]]


def diagnosed(*, abandoned: bool, path: Path = RECORDED) -> Found:
    """Return the recorded runs with what dcpctl says about them."""
    return [(run, run.diagnosis(abandoned=abandoned)) for run in runs(path)]


def runs(path: Path = RECORDED) -> Iterator[Run]:
    """Yield the recorded runs."""
    with gzip.open(path, "rt", encoding="ascii") as stream:
        for line in stream:
            save: dict[str, Any] = json.loads(line)
            for one in save["resumed"]:
                yield Run(
                    save["regime"], save["seed"], save["resume"],
                    one["truth"], one["scenario"], save["first"], one["rows"],
                )  # fmt: skip


def matrix(found: Found) -> Iterator[str]:
    """Yield the lines of the confusion matrix in Markdown: a row for each truth."""
    counts = Counter((run.truth, one.verdict.name) for run, one in found)
    stopped = Counter(run.truth for run, one in found if not one.match.ok)
    yield "| it was | " + " | ".join(VERDICTS) + " | stopped by the gate |"
    yield "|---|" + "---:|" * (len(VERDICTS) + 1)
    for truth in VERDICTS:
        total = sum(counts[truth, verdict] for verdict in VERDICTS)
        if total:
            cells = [
                f"**{counts[truth, verdict]}**"
                if verdict == truth
                else counts[truth, verdict] or ""
                for verdict in VERDICTS
            ]
            yield f"| {truth} | {' | '.join(map(str, cells))} | {stopped[truth]} of {total} |"


def by_size(apart: Found, abandoned: Found) -> Iterator[str]:
    """Yield a table of what was lost against the regime: how many runs were called so.

    Args:
        apart: from logs in which each process ends with its save.
        abandoned: from logs with the steps that the first process still wrote.
    """
    regimes = list(dict.fromkeys(run.regime for run, _ in apart))
    counts = [
        Counter((run.scenario, run.regime) for run, one in found if one.verdict.name == run.truth)
        for found in (apart, abandoned)
    ]
    totals = Counter((run.scenario, run.regime) for run, _ in apart)
    yield "| lost | " + " | ".join(regimes) + " |"
    yield "|---|" + "---:|" * len(regimes)
    for scenario in dict.fromkeys(run.scenario for run, _ in apart if run.truth == LOST_OPTIMIZER):
        places = [(scenario, regime) for regime in regimes]
        cells = [f"{counts[0][at]}, {counts[1][at]} of {totals[at]}" for at in places]
        yield f"| {scenario} | {' | '.join(cells)} |"


def by_word(*found: Found) -> Iterator[str]:
    """Yield a table of how often each word is right, by confidence too where it has several.

    Args:
        found: kinds of logs, a column each.
    """
    said = [
        Counter((one.verdict.name, one.verdict.confidence, run.truth) for run, one in each)
        for each in found
    ]
    yield "| said | " + "confidence | right |" + " right |" * (len(found) - 1)
    yield "|---|---|" + "---:|" * len(found)
    for name in VERDICTS:
        if name == INCONCLUSIVE:
            continue
        for confidence in ("high", "medium", "low"):
            cells = []
            for counts in said:
                right = counts[name, confidence, name]
                total = sum(counts[name, confidence, truth] for truth in VERDICTS)
                cells.append(f"{right} of {total}" if total else "")
            if any(cells):
                yield f"| {name} | {confidence} | {' | '.join(cells)} |"
