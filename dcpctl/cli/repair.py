"""`dcpctl repair`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpctl.cli.options import Form
from dcpctl.cli.surgery_options import Run, warn, with_run_anew
from dcpctl.errors import UsageError

if TYPE_CHECKING:
    from dcpctl.repair.options import RepairOptions
    from dcpctl.reports.repair import Repaired

WreckArgument = Annotated[
    Path, typer.Argument(metavar="SRC", help="The broken checkpoint.", show_default=False)
]
MadeArgument = Annotated[
    Path, typer.Argument(metavar="DST", help="The directory to make.", show_default=False)
]
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="SIBLING", help="Another save of the same run, same layout."),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-order", help="Accept a SIBLING whose numbers tell nothing."),
]
UnsummedOption = Annotated[
    bool, typer.Option("--allow-unsummed", help="Trust items that record no checksum.")
]


@with_run_anew
def repair(
    source: WreckArgument,
    target: MadeArgument,
    sibling: FromOption = None,
    allow_older: Annotated[
        bool,
        typer.Option("--allow-older", help="Take lost chunks from SIBLING if it is another save."),
    ] = False,
    drop_broken_state: Annotated[
        bool,
        typer.Option("--drop-broken-state", help="Leave out all state of damaged parameters."),
    ] = False,
    fill_broken_state: Annotated[
        bool,
        typer.Option("--fill-broken-state", help="Give them the state of a new optimizer: zeros."),
    ] = False,
    trust_order: TrustOption = False,
    allow_unsummed: UnsummedOption = False,
    *,
    run: Run,
) -> None:
    """Make a broken checkpoint whole in a new directory, or say why that cannot be done.

    A save that did not finish has shard files and no .metadata: its items are matched to those of
    SIBLING by order, dtype and shape, every checksum is compared, and the .metadata are written.
    Where items are lost, they are taken from SIBLING if it is a copy of the same save; everything
    else has to be asked for. What was done is recorded in DST/dcpctl-repair.json. Nothing is
    written to SRC. Exit code 4 says that something is lost or in doubt.

    Examples:
      dcpctl repair sample_checkpoints/interrupted out/whole --from sample_checkpoints/model_only/step-8500
      dcpctl repair sample_checkpoints/flipped_bit out/exact --from sample_checkpoints/silent_reset/step-8500
      dcpctl repair sample_checkpoints/flipped_bit out/older --from sample_checkpoints/silent_reset/step-9000 --allow-older
    """  # noqa: E501
    from dcpctl.repair.options import RepairOptions

    if drop_broken_state and fill_broken_state:
        raise UsageError("--drop-broken-state and --fill-broken-state contradict")
    if allow_older and sibling is None:
        raise UsageError("--allow-older takes chunks from SIBLING, so it needs --from")
    options = RepairOptions(
        allow_older=allow_older,
        drop_broken_state=drop_broken_state,
        fill_broken_state=fill_broken_state,
        trust_order=trust_order,
        allow_unsummed=allow_unsummed,
    )
    carry_out("repair", source, target, sibling, options, run)


def carry_out(
    verb: str,
    source: Path,
    target: Path,
    sibling: Path | None,
    options: RepairOptions,
    run: Run,
) -> None:
    """Survey, mend, write and report.

    Args:
        verb: `repair` or `salvage`.
        source: the broken checkpoint.
        target: the directory to make.
        sibling: another save of the same run.
        options: which remedies are allowed.
        run: the common options.

    Raises:
        DcpctlError: of any kind; nothing has been published then.
    """
    import dataclasses

    from dcpctl.model.opening import open_checkpoint
    from dcpctl.progress import Progress
    from dcpctl.repair import engine
    from dcpctl.repair.record import with_record
    from dcpctl.reports.repair import Repaired
    from dcpctl.writing.plan import plan
    from dcpctl.writing.ranks import speaks
    from dcpctl.writing.write import write

    if run.in_place:
        raise UsageError(f"a {verb} makes a new directory, so there is no --in-place")
    writing = run.options()
    engine.check_destination(target, sibling)
    mend = {"repair": engine.repair, "salvage": engine.salvage}[verb]
    with ExitStack() as opened:
        other = None if sibling is None else opened.enter_context(open_checkpoint(sibling))
        with Progress("proving", 0) as progress:
            reach = progress.reach if writing.progress else None
            options = dataclasses.replace(options, jobs=writing.jobs, progress=reach)
            mended = mend(source, other, options, opened)
        draft = dataclasses.replace(mended.draft, beside=(source,))
        made = with_record(plan(draft, target, writing), verb, source, sibling, mended)
        report = write(made, writing)
    if speaks():
        _print(Repaired(verb, source, target, sibling, mended, made, report, writing.dry_run), run)


def _print(repaired: Repaired, run: Run) -> None:
    """Print a report on stdout, and the warnings on stderr."""
    from dcpctl.reports.repair import repair_blocks, repair_document

    for warning in repaired.warnings:
        warn(warning)
    if run.output.is_json:
        from dcpctl.reports.json_lines import document

        run.output.pieces(document(repair_document(repaired)))
    else:
        alone = run.output.form is Form.MARKDOWN
        run.output.blocks(repair_blocks(repaired, with_warnings=alone))
