"""From a plan to a directory: staged, synced, proved, published."""

from __future__ import annotations

import time

from dcpctl.errors import ReadFailed, quote
from dcpctl.writing.distributed import write_together
from dcpctl.writing.in_place import write_in_place
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan
from dcpctl.writing.publish import DestinationExists, publish
from dcpctl.writing.ranks import launched
from dcpctl.writing.report import Report
from dcpctl.writing.run import Run, take_aim
from dcpctl.writing.staging import Staging


def write(plan: Plan, options: WriteOptions | None = None) -> Report:
    """Carry out a plan.

    The result grows in a directory beside the destination and takes its place by one rename, when
    it is whole, on disk and proved to hold what was planned. Whatever happens before that leaves
    the destination and the source as they were. Under torchrun the ranks share the files.

    Args:
        plan: from `writing.plan.plan`, with the same `in_place`.
        options: how.

    Returns:
        What was done.

    Raises:
        Refused, DestinationExists: the destination cannot be taken.
        NoSpace: there is too little room for the result.
        ChecksumMismatch, MalformedItem: the source is damaged.
        SourceChanged: the source was written to meanwhile.
        ReadFailed: the operating system failed; what is finished is kept for `resume`.
    """
    options = options or WriteOptions()
    if plan.in_place:
        return write_in_place(plan, options)
    if launched():
        return write_together(plan, options)
    started = time.monotonic()
    aim = take_aim(plan, options)
    if options.dry_run:
        return Report(plan.destination, plan.counts, aim.link, aim.needed, dry_run=True)
    staging = Staging.begin(
        aim.destination, plan.fingerprint, plan.directories, resume=options.resume
    )
    try:
        run = Run(plan, options, staging, aim.link)
        run.check_space()
        run.files()
        run.verify()
        run.metadata()
        publish(staging.files, aim.destination, overwrite=options.overwrite)
    except (ReadFailed, DestinationExists, KeyboardInterrupt) as error:
        kept = staging.leave()
        if kept and isinstance(error, ReadFailed) and error.hint is None:
            error.hint = (
                f"what is finished is kept in {quote(staging.root)}; continue with --resume"
            )
        raise
    except BaseException:
        staging.remove()
        raise
    staging.remove()
    return Report(
        plan.destination,
        plan.counts,
        aim.link,
        run.written + plan.metadata_bytes,
        time.monotonic() - started,
        resumed=tuple(run.resumed),
        notes=tuple(staging.notes),
    )
