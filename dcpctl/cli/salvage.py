"""`dcpctl salvage`."""

from __future__ import annotations

from dcpctl.cli.repair import (
    FromOption,
    MadeArgument,
    TrustOption,
    UnsummedOption,
    WreckArgument,
    carry_out,
)
from dcpctl.cli.surgery_options import Run, with_run_anew


@with_run_anew
def salvage(
    source: WreckArgument,
    target: MadeArgument,
    sibling: FromOption = None,
    trust_order: TrustOption = False,
    allow_unsummed: UnsummedOption = False,
    *,
    run: Run,
) -> None:
    """Take what is provably good out of a broken checkpoint, and say what is lost.

    A key is taken if every chunk of it is there and has its checksum; dcp.load reads the result.
    Without .metadata, SIBLING tells what is in which file, and none of its numbers are used.

    Examples:
      dcpctl salvage sample_checkpoints/flipped_bit out/good
      dcpctl salvage sample_checkpoints/interrupted out/some --from sample_checkpoints/model_only/step-8500
    """  # noqa: E501
    from dcpctl.repair.options import RepairOptions

    options = RepairOptions(trust_order=trust_order, allow_unsummed=allow_unsummed)
    carry_out("salvage", source, target, sibling, options, run)
