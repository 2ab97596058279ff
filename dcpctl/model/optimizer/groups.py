"""Param groups as a person wrote them, and what a newer torch will ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcpctl.model.optimizer.catalogue import TorchOptimizer, catalogue, version_key
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.kind import Kind
from dcpctl.model.optimizer.source import RawOptimizer
from dcpctl.model.values import Unknown


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """One param group.

    Attributes:
        root: the optimizer that it belongs to.
        values: hyperparameters in their stored order, without `params`.
        params: names of its parameters; indices where their names are not certain.
        kind: which optimizer it configures.
        unknown: why its parameters are not known, where that could not be read.
    """

    root: str
    values: Mapping[str, object]
    params: tuple[str, ...]
    kind: Kind
    unknown: Unknown | None = None


@dataclass(frozen=True, slots=True)
class MissingGroupKey:
    """A group key that a torch release's optimizer has and the checkpoint's group has not.

    `dcp.load` asks for every key of the running optimizer's groups, so it fails on this one
    ("Missing key in checkpoint state_dict"), unless `param_groups` is one pickled list.

    Attributes:
        group: index into the view's param groups.
        key: the key.
        default: its default in that release; of the likeliest optimizer when ambiguous.
        ambiguous: the optimizers that it may be have different defaults.
        defaults: class name to default, for each that it may be.
    """

    group: int
    key: str
    default: object
    ambiguous: bool
    defaults: Mapping[str, object]


def param_groups(raw: RawOptimizer, parameters: Sequence[Parameter]) -> list[ParamGroup]:
    """Return the groups of one optimizer.

    The flattened style keeps each parameter's hyperparameters; parameters whose values are equal
    make one group, in the order of their first parameters. This reads every value.
    """
    named = {parameter.key: parameter for parameter in parameters}
    merged: dict[object, tuple[Mapping[str, object], list[str], Kind, Unknown | None]] = {}
    flattened = len(raw.groups) > 1 and all(len(group.params) == 1 for group in raw.groups)
    for index, group in enumerate(raw.groups):
        values = {key: group.values[key] for key in group.values}
        owners = [named[param] for param in group.params if param in named]
        names = [named[param].name if param in named else param for param in group.params]
        if not owners and group.unknown is not None:
            owners = list(parameters)
        kind = owners[0].kind if owners else Kind(None, (), "")
        same = repr(sorted(values.items())) if flattened else index
        merged.setdefault(same, (values, [], kind, group.unknown))[1].extend(names)
    return [
        ParamGroup(raw.root, values, tuple(names), kind, unknown)
        for values, names, kind, unknown in merged.values()
    ]


def missing_group_keys(groups: Sequence[ParamGroup], target: str) -> list[MissingGroupKey]:
    """Return the keys that a torch release's optimizers will ask for and not find.

    Args:
        groups: the param groups.
        target: a torch release, `2.13` or `2.13.0`.

    Returns:
        One per group and key, in order; none for optimizers that are not torch.optim's.
    """
    release = catalogue().release_for(target)
    found = []
    for index, group in enumerate(groups):
        able = [o for o in group.kind.torch if version_key(o.first) <= version_key(release)]
        if not able or not _is_torchs(group.kind):
            continue
        for key in able[0].keys_at(release):
            if key not in group.values:
                defaults = {o.name: _default(o, key, release) for o in able}
                several = len({repr(default) for default in defaults.values()}) > 1
                first = defaults[able[0].name]
                found.append(MissingGroupKey(index, key, first, several, defaults))
    return found


def _is_torchs(kind: Kind) -> bool:
    return not kind.foreign and all(name in catalogue().torch for name in kind.candidates)


def _default(optimizer: TorchOptimizer, key: str, release: str) -> object:
    history = optimizer.keys.get(key)
    return history.default_at(release) if history else None
