"""DCP4xx: keys that a load puts somewhere else than where the job has them."""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import WARNING
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.model.fqn import is_index


@rule("DCP411", WARNING, "keys of dicts that were numbers, perhaps, and are text now")
def text_keys(run: Run) -> Iterator[Hit]:
    """Objects under a dict's key that is a number in text: `lr_scheduler.milestones.25`."""
    planner = run.checkpoint.planner_data
    if planner is None:
        raise CannotRun("the checkpoint has no planner data")
    dicts: dict[tuple[object, ...], list[str]] = {}
    for fqn in run.checkpoint.bytes_entries:
        path = planner.get(fqn, ())
        # Indices of lists are numbers in the planner data; keys of dicts are always text.
        at = next((i for i, key in enumerate(path) if isinstance(key, str) and is_index(key)), None)
        if at:
            dicts.setdefault(path[:at], []).append(fqn)
    for path, fqns in dicts.items():
        name = ".".join(map(str, path))
        yield Hit(
            fqns[0],
            f"{words.count(len(fqns), 'object')} of {words.some([name])} under keys that are "
            f"numbers in text ({words.some(fqns)}): if the job's keys are numbers, dcp.load puts "
            "each value under the text beside the number, whose value stays what it was",
        )
