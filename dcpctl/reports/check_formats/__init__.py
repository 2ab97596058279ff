"""The formats that `check` reports in: each module here is one, of the module's name.

A new file with a function `write(checked, stream, look)` is a new format, for `--format` as well
as for `--report`; nothing else needs to know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dcpctl.check.finding import Checked
    from dcpctl.reports.blocks import Block

#: For people; the others are for programs.
_FIRST = ("text", "table", "markdown")


@dataclass(frozen=True, slots=True)
class Look:
    """How a report shall look.

    Attributes:
        strict: warnings fail the check too.
        one: a single checkpoint was asked for, which is more than to find only one in a run.
        color: with colours, where the format has some.
        table_style: tabulate's style, for `table`.
    """

    strict: bool = False
    one: bool = False
    color: bool = False
    table_style: str = "simple"


def names() -> tuple[str, ...]:
    """The formats there are, those for people first."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return (*_FIRST, *(name for name in found if name not in _FIRST))


def write(name: str, checked: Checked, stream: TextIO, look: Look) -> None:
    """Write a report.

    Args:
        name: one of `names()`.
        checked: what was found.
        stream: where to.
        look: how.

    Raises:
        UsageError: tabulate has no such style.
    """
    importlib.import_module(f"{__name__}.{name}").write(checked, stream, look)


def blocks_of(checked: Checked, look: Look) -> Iterator[Block]:
    """The report for people, which `text`, `table` and `markdown` print in their ways."""
    from dcpctl.reports.check_blocks import check_blocks
    from dcpctl.reports.check_many_blocks import many_blocks

    if look.one and checked.results:
        return check_blocks(checked.results[0])
    return many_blocks(checked)
