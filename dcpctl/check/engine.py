"""Runs the rules over a checkpoint."""

from __future__ import annotations

import os
from contextlib import ExitStack

from dcpctl.check.collected import Collected
from dcpctl.check.finding import CheckResult
from dcpctl.check.options import CheckOptions
from dcpctl.check.registry import all_rules, explain, rules_of
from dcpctl.check.run import Run
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.opening import open_checkpoint

__all__ = ["all_rules", "check_opened", "explain", "run_checks"]


def run_checks(path: str | os.PathLike[str], options: CheckOptions | None = None) -> CheckResult:
    """Check the checkpoint at `path`.

    Nothing in it is executed and nothing is written. Without `verify_data` the contents of the
    storage items are checked in a sample, always the same one; `CheckResult.notes` says of how
    much. Imports no torch.

    Args:
        path: as `open_checkpoint` takes it.
        options: what to check; by default every rule.

    Raises:
        NothingSelected: `select` or `ignore` names no rule, or leaves none.
        As `open_checkpoint`: what has no readable metadata cannot be checked, nor compared with.
    """
    options = options or CheckOptions()
    rules_of(options)  # before anything is read
    with ExitStack() as opened:
        checkpoint = opened.enter_context(open_checkpoint(path))
        against = None
        if options.against is not None:
            against = opened.enter_context(open_checkpoint(options.against))
        return check_opened(checkpoint, options, against)


def check_opened(
    checkpoint: Checkpoint,
    options: CheckOptions,
    against: Checkpoint | None = None,
    *,
    newest: bool = False,
) -> CheckResult:
    """Check an opened checkpoint.

    Args:
        checkpoint: stays open.
        options: what to check; `against` in them is not looked at.
        against: the save of the same run that came before, opened; None to check this one alone.
        newest: it is the newest save of its run, which jobs write as an export at times.

    Raises:
        NothingSelected: as `run_checks`.
    """
    first = checkpoint.parts[0]
    run = Run(checkpoint, options, against, newest=newest)
    collected = Collected(options)
    for rule in rules_of(options):
        collected.take(rule, run)
    return CheckResult(
        path=checkpoint.path,
        form=checkpoint.format,
        target=run.target,
        findings=collected.findings(),
        counts=collected.counts,
        skipped=tuple(collected.skipped),
        rules_run=tuple(collected.ran),
        notes=run.notes(),
        items=len(run.items),
        items_verified=run.scanned.verified if run.scanned else 0,
        bytes_stored=run.items.nbytes,
        bytes_read=run.scanned.bytes_read if run.scanned else 0,
        against=against.path if against is not None else None,
        policy=options.policy.path if options.policy is not None else None,
        waived=tuple(collected.waived.findings),
        baseline=options.baseline.path if options.baseline is not None else None,
        unused_waivers=collected.waived.unused(collected.ran),
        metadata_file=first.located(first.stored.metadata_file),
    )
