"""Read, check, explain and edit PyTorch distributed checkpoints, without torch.

`open_checkpoint(path)` gives a `Checkpoint`: an ordered map from FQN to entry, of which a slice
reads the bytes that it needs. The verbs of the command line are functions that take a path or an
opened checkpoint and give a `Result`: a typed `.value`, `.ok` (exit code 0), `.to_dict()` (the
JSON document), and the report when it is printed.

    inspect(path)                    what it holds, and whether training can be resumed from it
    check(path, ...)                 what is wrong with it, or with the saves of a run
    diff(a, b)                       what differs, and what a load of a would silently lose
    rename, drop, select, set,       surgery: (source, target, option=...), or in_place=True;
    cast, merge, reshard, upgrade    options have the names that they have in edits.toml
    edit(source, target, edits)      several of these in one pass
    undo(path)                       take back the last edit in place
    repair, salvage                  (source, target): make a broken checkpoint whole, or a part
    signature(log, ...)              whether a resume lost the optimizer, from a training log

Errors are `DcpctlError`s with `.id`, `.hint` and `.exit_code`. Importing this package imports
neither NumPy nor torch; only `entry.torch()` and `dcpctl.training` import torch.
"""

# Nothing is imported before it is asked for: neither NumPy, which the command's help needs not, nor
# anything that an interrupt could end with a traceback before `cli.main` sees to interrupts.
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from dcpctl.api import Result, check, diff, edit, inspect, repair, salvage, signature, undo
    from dcpctl.errors import DcpctlError
    from dcpctl.model.checkpoint import Checkpoint
    from dcpctl.model.opening import open_checkpoint
    from dcpctl.reports.surgery import Surgery

    cast: Callable[..., Result[Surgery]]
    drop: Callable[..., Result[Surgery]]
    merge: Callable[..., Result[Surgery]]
    rename: Callable[..., Result[Surgery]]
    reshard: Callable[..., Result[Surgery]]
    select: Callable[..., Result[Surgery]]
    upgrade: Callable[..., Result[Surgery]]
else:
    ModuleType = type(sys)

__version__ = "0.1.0"

#: Verbs that have a package of their own, which is called.
_PACKAGES = frozenset({"check", "diff", "inspect", "repair", "signature"})
#: Verbs of surgery; `set` is one too, and not in `__all__`, as a star import would hide Python's.
_SURGERY = ("cast", "drop", "merge", "rename", "reshard", "select", "set", "upgrade")
#: Where the other names are.
_HOMES = {
    "Checkpoint": "dcpctl.model.checkpoint",
    "DcpctlError": "dcpctl.errors",
    "Result": "dcpctl.api",
    "edit": "dcpctl.api",
    "open_checkpoint": "dcpctl.model.opening",
    "salvage": "dcpctl.api",
    "undo": "dcpctl.api",
}

__all__ = [
    "Checkpoint",
    "DcpctlError",
    "Result",
    "__version__",
    "open_checkpoint",
    "inspect",
    "check",
    "diff",
    "upgrade",
    "reshard",
    "rename",
    "drop",
    "select",
    "merge",
    "cast",
    "edit",
    "undo",
    "repair",
    "salvage",
    "signature",
]


class _Verb(ModuleType):
    """A package that is called as the verb of its name: `dcpctl.check(path)`."""

    def __call__(self, *arguments: "Any", **options: "Any") -> "Any":
        name = self.__name__.rpartition(".")[2]
        return getattr(_module("dcpctl.api"), name)(*arguments, **options)


class _Package(ModuleType):
    """This package; makes those of verbs callable when Python has imported them."""

    def __setattr__(self, name: str, value: "Any") -> None:
        if name in _PACKAGES and type(value) is ModuleType:
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _module(name: str) -> "Any":
    from importlib import import_module

    return import_module(name)


def __getattr__(name: str) -> "Any":
    """Import a public name on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return _module(f"dcpctl.{name}")
    if name in _SURGERY:
        return _module("dcpctl.api").surgery(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, the lazy ones included."""
    return sorted([*__all__, "set"])
