"""Param groups as a table of what differs and a line of what does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dcpctl.model.optimizer.groups import ParamGroup
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.reports import values_text, words
from dcpctl.reports.blocks import DIM, Block, Column, Facts, Span, Table

_MOST = 12


def group_blocks(view: OptimizerView) -> Iterator[Block]:
    """Say the param groups: one table row each, the hyperparameters in common below."""
    groups = view.param_groups
    if not groups:
        return
    shown = [{key: values_text.short(v) for key, v in group.values.items()} for group in groups]
    keys = list(dict.fromkeys(key for values in shown for key in values))
    common = [key for key in keys if len({values.get(key) for values in shown}) == 1]
    if len(groups) == 1:
        label = f"group of {_members(groups[0])}"
        yield Facts([(label, _pairs(shown[0], keys))])
        return
    differing = [key for key in keys if key not in common]
    yield Table(
        [
            Column("group", right=True),
            Column("parameters", right=True),
            *(Column(key, right=True) for key in differing),
            Column("first", folds=True),
        ],
        [
            (
                str(number),
                "unknown" if group.unknown is not None else f"{len(group.params):,}",
                *(shown[number].get(key, "-") for key in differing),
                Span(_first(group), DIM),
            )
            for number, group in enumerate(groups[:_MOST])
        ],
    )
    rows = [("in all", _pairs(shown[0], common))] if common else []
    if len(groups) > _MOST:
        rows.append(("not shown", f"{len(groups) - _MOST} more groups; --json has all"))
    if rows:
        yield Facts(rows)


def _members(group: ParamGroup) -> str:
    if group.unknown is not None:
        return "an unknown number of parameters"
    return words.count(len(group.params), "parameter")


def _first(group: ParamGroup) -> str:
    return group.params[0] if group.params else ""


def _pairs(values: dict[str, str], keys: Sequence[str]) -> str:
    """`lr 0.0003, betas (0.9, 0.95)`: set ones, then what is off (False, None), then unknown."""
    unknown = [key for key in keys if values[key] == "unknown"]
    off = [key for key in keys if values[key] in ("False", "None")]
    on = [key for key in keys if key not in (*off, *unknown)]
    said = ", ".join(f"{key} {values[key]}" for key in (*on, *off))
    if unknown:
        said += f"{'; ' if said else ''}unknown: {', '.join(unknown)}"
    return said
