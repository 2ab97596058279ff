"""`dcpctl check`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from dcpctl.cli.check_baseline import check_and_update
from dcpctl.cli.check_options import Asked, PathsArgument, check_options
from dcpctl.cli.combine import with_options
from dcpctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dcpctl.check.finding import Checked
    from dcpctl.check.many import Target
    from dcpctl.check.options import CheckOptions

#: Exit codes: the answer is no; not every checkpoint could be read.
FAILED, UNREADABLE = 1, 3


@with_options(check_options, "asked", Asked.of)
def check(paths: PathsArgument, *, asked: Asked) -> None:
    """Find what is wrong with a checkpoint, with several, or with the saves of a run.

    Rules look at structure (DCP1xx), files (DCP2xx), contents (DCP3xx), form (DCP4xx), optimizer
    (DCP5xx), the save before (DCP6xx), what a policy asks (DCP7xx) and loads (DCP8xx); `dcpctl
    explain DCP103` says what one means. Of the contents a sample is read, and all of it with
    --verify-data. Exit code 1 says that there are errors. A rule that could not run is listed as
    skipped.

    Of a directory every save of every run below it is checked, however deep, and compared with the
    save of its run before it; the end says which save to resume from, and where was not looked. Of
    several checkpoints one that cannot be read does not end the check of the others; the exit code
    is 3 then.

    Examples:
      dcpctl check sample_checkpoints/healthy/step-8500
      dcpctl check sample_checkpoints/flipped_bit --verify-data
      dcpctl check sample_checkpoints/healthy/step-8500 --security
      dcpctl check sample_checkpoints/legacy --torch 2.13
      dcpctl check sample_checkpoints/silent_reset
      dcpctl check sample_checkpoints/silent_reset --select DCP5xx,DCP6xx --strict
      dcpctl check sample_checkpoints/legacy --like sample_checkpoints/model_only/step-8500
      dcpctl check sample_checkpoints/legacy --baseline waivers.json --update-baseline
    """
    from dcpctl.check.many import look_for
    from dcpctl.model.directories import meant_by

    paths = list(dict.fromkeys(map(meant_by, paths)))
    options = asked.options(paths)
    looked = [look_for(path) for path in paths]
    targets = [target for found, _ in looked for target in found]
    unread = {where: why for _, unread in looked for where, why in unread.items()}
    if asked.has_receipt and len(targets) > 1:
        raise UsageError("--receipt is of one load, and several checkpoints are checked")
    one = [target.path for target in targets] == paths[:1]
    check = partial(_check_one, targets[0]) if one else partial(_check_many, targets, unread)
    if asked.updates_baseline and options.baseline is not None:
        checked = check_and_update(check, options, options.baseline)
    else:
        checked = check(options)
    asked.reports.write(checked, strict=options.strict, one=one)
    if one and checked.unreadable:
        raise checked.unreadable[0].error
    if checked.unreadable:
        raise typer.Exit(UNREADABLE)
    if checked.failed(options.strict) and not asked.exit_zero:
        raise typer.Exit(FAILED)


def _check_one(target: Target, options: CheckOptions) -> Checked:
    """One checkpoint, with the progress of reading it."""
    from dataclasses import replace

    from dcpctl.check.engine import run_checks
    from dcpctl.check.finding import Checked, Unreadable
    from dcpctl.errors import InputError
    from dcpctl.progress import Progress

    with Progress("reading", 0) as progress:
        try:
            result = run_checks(target.path, replace(options, progress=progress.reach))
        except InputError as error:
            return Checked((), (Unreadable(target.path, error),))
    return Checked((result,))


def _check_many(
    targets: Sequence[Target], unread: Mapping[Path, str], options: CheckOptions
) -> Checked:
    from dcpctl.check.many import check_many
    from dcpctl.progress import Progress

    with Progress("checking", len(targets), unit="checkpoints") as progress:
        return check_many(targets, options, unread=unread, advance=progress.reach)
