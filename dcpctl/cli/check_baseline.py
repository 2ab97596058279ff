"""`dcpctl check --update-baseline`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from dcpctl.cli.surgery_options import warn
from dcpctl.errors import quote

if TYPE_CHECKING:
    from dcpctl.check.baseline import Baseline
    from dcpctl.check.finding import Checked
    from dcpctl.check.options import CheckOptions


def check_and_update(
    check: Callable[[CheckOptions], Checked], options: CheckOptions, baseline: Baseline
) -> Checked:
    """Check with all findings, write them to the baseline, and return what is left with it.

    What could not be read may have findings of its own, so that nothing is written then.

    Args:
        check: checks with other options.
        options: of the command line.
        baseline: as it was; its file may not be there yet.

    Raises:
        ReadFailed: the baseline cannot be written.
    """
    from dcpctl.check.baseline_file import write_baseline

    checked = check(replace(options, baseline=None, max_findings=None))
    if checked.unreadable:
        warn(f"{quote(baseline.path)} was not written: not every checkpoint could be read")
        return checked
    updated = baseline.updated(checked.results)
    write_baseline(updated)
    before, after = set(baseline.waivers), set(updated.waivers)
    sys.stderr.write(
        f"{quote(baseline.path)}: {len(after):,} waiver{'' if len(after) == 1 else 's'}, "
        f"{len(after - before):,} new, {len(before - after):,} removed\n"
    )
    return replace(checked, results=tuple(map(updated.applied, checked.results)))
