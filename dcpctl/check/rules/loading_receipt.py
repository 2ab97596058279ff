"""DCP81x: what did the load do with it, as the receipt says that the run wrote?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.registry import CannotRun, Hit, NotAsked, rule
from dcpctl.check.run import Run
from dcpctl.errors import printable
from dcpctl.model.globs import matching
from dcpctl.model.receipt import Receipt
from dcpctl.model.sections import OPTIMIZER


@rule("DCP811", ERROR, "the receipt is that of another load")
def other_load(run: Run) -> Iterator[Hit]:
    """A receipt whose save, or whose keys, are not those of the checkpoint."""
    why = _receipt(run).differs_from(run.checkpoint)
    if why:
        yield Hit("receipt", why)


@rule("DCP812", ERROR, "the load skipped optimizer state")
def skipped_optimizer(run: Run) -> Iterator[Hit]:
    """Optimizer state that stayed on disk, without the run having said that it may."""
    of = run.optimizer.sections.of
    left = [fqn for fqn in _skipped(run) if of.get(fqn) == OPTIMIZER]
    if left:
        total = len(run.optimizer.sections.members(OPTIMIZER))
        yield Hit(
            left[0],
            f"the load left {len(left):,} of {total:,} entries of the optimizer on disk, so "
            f"the run continued from zero moments: {words.some(left)}",
        )


@rule("DCP813", WARNING, "the load skipped keys")
def skipped(run: Run) -> Iterator[Hit]:
    """Other keys that stayed on disk, without the run having said that they may."""
    of = run.optimizer.sections.of
    left = [fqn for fqn in _skipped(run) if of.get(fqn) != OPTIMIZER]
    if left:
        yield Hit(
            left[0], f"the load left {words.count(len(left), 'key')} on disk: {words.some(left)}"
        )


@rule("DCP814", INFO, "the load filled keys by rule")
def filled(run: Run) -> Iterator[Hit]:
    """Keys that the checkpoint lacks and that got a release's default."""
    found = _of_this(run).filled
    if found:
        shown = ", ".join(f"{one.key} = {one.value!r}" for one in found[:3])
        more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
        yield Hit(
            found[0].key,
            f"{words.count(len(found), 'key')} that the checkpoint does not have "
            f"{'was' if len(found) == 1 else 'were'} filled: {printable(shown)}{more}",
        )


@rule("DCP815", ERROR, "the load left keys of the run as they were")
def missing(run: Run) -> Iterator[Hit]:
    """Keys that the run asked for, the checkpoint lacks, and a partial load passed over."""
    found = _of_this(run).missing
    if found:
        yield Hit(
            found[0],
            f"{words.count(len(found), 'key')} of the run {'is' if len(found) == 1 else 'are'} not "
            f"in the checkpoint and kept what the program had put there: {words.some(found)}",
        )


def _receipt(run: Run) -> Receipt:
    if run.options.receipt is None:
        raise NotAsked("--receipt names no receipt of a load")
    return run.options.receipt


def _of_this(run: Run) -> Receipt:
    receipt = _receipt(run)
    why = receipt.differs_from(run.checkpoint)
    if why:
        raise CannotRun(why)
    return receipt


def _skipped(run: Run) -> list[str]:
    """Keys that stayed on disk and that neither the run nor the check was told may."""
    left = [one.key for one in _of_this(run).skipped if not one.ignored]
    may = {fqn for glob in run.options.may_skip for fqn in matching(left, glob)}
    return [fqn for fqn in left if fqn not in may]
