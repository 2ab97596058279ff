"""DCP2xx: does each shard file hold its own content?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote


@rule("DCP212", ERROR, "a shard file holds another one's content")
def displaced(run: Run) -> Iterator[Hit]:
    """Files whose items lie in each other: swapped, rotated, or one copied over the other."""
    found = run.displaced
    names = {number: file.name for number, file in enumerate(run.checkpoint.files)}
    told: set[int] = set()
    for number, owner in found.items():
        if number in told:
            continue
        circle = [number]
        while found.get(circle[-1], number) != number and found[circle[-1]] not in circle:
            circle.append(found[circle[-1]])
        closed = found.get(circle[-1]) == number
        told.update(circle if closed else [number])
        if closed and len(circle) == 2:
            what = (
                f"{quote(names[number])} and {quote(names[owner])} are swapped: the items of each "
                "lie in the other"
            )
        elif closed:
            what = (
                f"{words.count(len(circle), 'file')} have each other's content: that of "
                + ", ".join(
                    f"{quote(names[found[one]])} is in {quote(names[one])}" for one in circle
                )
            )
        else:
            what = (
                f"it holds the content of {quote(names[owner])}: the items of that file lie in it, "
                "and its own do not"
            )
        yield Hit(names[number], what, names[number])
