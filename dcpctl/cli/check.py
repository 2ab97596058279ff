"""`dcpctl check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dcpctl.cli import check_options as given
from dcpctl.cli.options import (
    Color,
    ColorOption,
    FormOption,
    JsonOption,
    Output,
    OutputOption,
    StyleOption,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dcpctl.check.finding import Checked
    from dcpctl.check.many import Target
    from dcpctl.check.options import CheckOptions

#: Exit codes: the answer is no; not every checkpoint could be read.
FAILED, UNREADABLE = 1, 3


def check(
    paths: given.PathsArgument,
    against: given.AgainstOption = None,
    verify_data: given.VerifyOption = False,
    values: given.ValuesOption = False,
    torch: given.TorchOption = None,
    expect_step: given.StepOption = None,
    select: given.SelectOption = None,
    ignore: given.IgnoreOption = None,
    strict: given.StrictOption = False,
    exit_zero: given.ExitZeroOption = False,
    max_findings: given.MaxFindingsOption = 200,
    jobs: given.JobsOption = None,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Find what is wrong with a checkpoint, with several, or with the saves of a run.

    Rules look at its structure (DCP1xx), files (DCP2xx), contents (DCP3xx), form (DCP4xx) and
    optimizer (DCP5xx); `dcpctl explain DCP103` says what one means. Of the contents a sample is
    read, and all of it with --verify-data. Exit code 1 says that there are errors. A rule that
    could not run is listed as skipped.

    Of a run directory every save is checked, and compared with the save before it. Of several
    checkpoints one that cannot be read does not end the check of the others; the exit code is 3
    then.

    Examples:
      dcpctl check sample_checkpoints/healthy/step-8500
      dcpctl check sample_checkpoints/flipped_bit --verify-data
      dcpctl check sample_checkpoints/legacy --torch 2.13
      dcpctl check sample_checkpoints/silent_reset/step-9500 --select DCP5xx --strict
      dcpctl check sample_checkpoints/silent_reset
      dcpctl check sample_checkpoints/silent_reset/step-9500 \
--against sample_checkpoints/silent_reset/step-9000
    """
    out = Output.of(form, json, output, table_style, color)
    release = given.release(torch)
    from dcpctl.check.many import find_targets
    from dcpctl.check.options import CheckOptions

    targets = [target for path in paths for target in find_targets(path)]
    options = CheckOptions(
        select=given.split(select),
        ignore=given.split(ignore),
        strict=strict,
        max_findings=max_findings or None,
        verify_data=verify_data,
        values=values,
        torch=release,
        expect_step=expect_step,
        against=against,
        jobs=jobs,
    )
    one = [target.path for target in targets] == paths[:1]
    checked = _check_one(targets[0], options) if one else _check_many(targets, options)
    _print(checked, out, strict=strict, one=one)
    if checked.unreadable:
        raise typer.Exit(UNREADABLE)
    if checked.failed(strict) and not exit_zero:
        raise typer.Exit(FAILED)


def _check_one(target: Target, options: CheckOptions) -> Checked:
    """One checkpoint: what cannot be read is an error of the command."""
    from dataclasses import replace

    from dcpctl.check.engine import run_checks
    from dcpctl.check.finding import Checked
    from dcpctl.progress import Progress

    with Progress("reading", 0) as progress:
        return Checked((run_checks(target.path, replace(options, progress=progress.reach)),))


def _check_many(targets: Sequence[Target], options: CheckOptions) -> Checked:
    from dcpctl.check.many import check_many
    from dcpctl.progress import Progress

    with Progress("checking", len(targets), unit="checkpoints") as progress:
        return check_many(targets, options, advance=progress.reach)


def _print(checked: Checked, out: Output, *, strict: bool, one: bool) -> None:
    if out.is_json:
        from dcpctl.reports import check_json
        from dcpctl.reports.json_lines import document

        head, lists = (
            check_json.one_document(checked.results[0], strict=strict)
            if one
            else check_json.many_document(checked, strict=strict)
        )
        out.pieces(document(head, **lists))
    else:
        from dcpctl.reports.check_blocks import check_blocks
        from dcpctl.reports.check_many_blocks import many_blocks

        out.blocks(check_blocks(checked.results[0]) if one else many_blocks(checked))
