"""Which names torch has, release by release, as `tools.make_torch_names` read them from its wheels.

`_data/torch_names.json` has what pickles of checkpoints name: dtypes, layouts, storages, what
`weights_only` allows and with how many arguments, the classes of DCP in their modules.
`_data/torch_modules.json.gz` has every name of every module, and is looked at only for a name
that is none of these.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

_DATA = Path(__file__).resolve().parent.parent.parent / "_data"
#: In the table of modules: a module that may have any name.
_OPEN = "*"


class Span(NamedTuple):
    """The releases that have a name.

    Attributes:
        first: the oldest.
        last: the newest; None where the newest known release still has it.
    """

    first: str
    last: str | None


@dataclass(frozen=True, slots=True)
class TorchNames:
    """The names; paths are `module.name`, dtypes and the like are named without `torch.`.

    Attributes:
        releases: every release that was read, oldest first.
        dtypes: attribute of torch -> releases that have it.
        layouts: likewise.
        memory_formats: likewise.
        qschemes: likewise, schemes of quantized tensors.
        storages: path of a storage class -> releases that have it.
        safe: path that `torch.load(weights_only=True)` allows -> releases that allow it.
        classes: path of a class or function of the modules of DCP and of tensors -> releases
            that define it there.
        calls: path of a function -> fewest and most arguments (None: any number).
        enums: path of an enum -> its members' values.
    """

    releases: tuple[str, ...]
    dtypes: Mapping[str, Span]
    layouts: Mapping[str, Span]
    memory_formats: Mapping[str, Span]
    qschemes: Mapping[str, Span]
    storages: Mapping[str, Span]
    safe: Mapping[str, Span]
    classes: Mapping[str, Span]
    calls: Mapping[str, tuple[int, int | None]]
    enums: Mapping[str, frozenset[int]]


@lru_cache(maxsize=1)
def torch_names() -> TorchNames:
    """Read the table of names, once."""
    table = json.loads((_DATA / "torch_names.json").read_text(encoding="utf-8"))
    spans = {
        section: {name: Span(*span) for name, span in table[section].items()}
        for section in (
            *("dtypes", "layouts", "memory_formats", "qschemes"),
            *("storages", "safe", "classes"),
        )
    }
    return TorchNames(
        releases=tuple(table["releases"]),
        calls={path: (low, high) for path, (low, high) in table["calls"].items()},
        enums={path: frozenset(values) for path, values in table["enums"].items()},
        **spans,
    )


def releases_with(path: str) -> tuple[str, ...] | None:
    """The releases that have a name of torch.

    Args:
        path: `module.name`, such as `torch.nn.modules.linear.Linear`.

    Returns:
        Some of `torch_names().releases`, none where no release has it; None where that is not
        known: the name is no name of torch, or in a module that makes its names at run time.
    """
    if path.partition(".")[0] != "torch":
        return None
    modules = _modules()
    module = path
    while module not in modules:
        module = module.rpartition(".")[0]
    rest = path[len(module) + 1 :].partition(".")[0]
    releases = torch_names().releases
    names = modules[module]
    mask = names.get(rest, 0)
    if rest:
        mask |= names.get(_OPEN, 0)
        if mask == 0 and _open_above(module, modules):
            return None
    return tuple(release for bit, release in enumerate(releases) if mask >> bit & 1)


def lacks(path: str, target: str | None) -> str:
    """Why torch cannot load a name of its own.

    Args:
        path: `module.name`.
        target: the release that shall load it; None for any.

    Returns:
        A clause such as `no torch release from 1.13 to 2.14 has it`; empty if there is no reason,
        or none is known.
    """
    having = releases_with(path)
    if having is None:
        return ""
    releases = torch_names().releases
    if not having:
        return f"no torch release from {_minor(releases[0])} to {_minor(releases[-1])} has it"
    known = {_minor(release): release for release in releases}
    wanted = known.get(_minor(target)) if target else None
    if wanted is None or wanted in having:
        return ""
    first, last = _minor(having[0]), _minor(having[-1])
    which = f"torch {first}" if first == last else f"torch {first} to {last}"
    return f"torch {_minor(wanted)} does not have it, {which} {'does' if first == last else 'do'}"


def _open_above(module: str, modules: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether a package around a module may have anything below it."""
    above = module
    while above != "torch":
        if _OPEN in modules.get(above, ()):
            return True
        above = above.rpartition(".")[0]
    return False


def _minor(release: str) -> str:
    return ".".join(release.split(".")[:2])


@lru_cache(maxsize=1)
def _modules() -> dict[str, dict[str, int]]:
    """Module -> name in it (the empty one is itself) -> releases that have it, a bit each."""
    with gzip.open(_DATA / "torch_modules.json.gz", "rt", encoding="utf-8") as file:
        table: dict[str, Any] = json.load(file)["modules"]
    return {
        module: {name: int(mask, 16) for mask, names in groups.items() for name in names.split(",")}
        for module, groups in table.items()
    }
