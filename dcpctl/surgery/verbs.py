"""What a verb of surgery is: a dataclass whose fields say how they are given.

Everything else derives from it: the options of the command, those of `dcpctl edit`, the fields of
`edits.toml` and its schema, the help and its examples. A verb is one module of this package, or an
entry point of the group `dcpctl.verbs` in a distribution of somebody else's.

Verbs are declared before anything is read, and listed for the help of all commands. So their
modules import what works on checkpoints, NumPy with it, where it is used.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dcpctl.errors import DcpctlError, UsageError, quote
from dcpctl.plugins import entry_points
from dcpctl.surgery.options import OPTIONS, Option, Together

if TYPE_CHECKING:
    from dcpctl.model.checkpoint import Checkpoint
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome

#: Opens a checkpoint that an edit names; whoever passes it closes them all.
Open = Callable[[Path], "Checkpoint"]
#: Group of the entry points by which other distributions add verbs.
ENTRY_POINTS = "dcpctl.verbs"


class Verb:
    """What every verb is; its docstring is the help: a sentence, paragraphs, `Examples:`.

    Subclasses are frozen dataclasses whose fields are made by `given`.

    Attributes:
        verb: its name.
        order: place in the help, by which verbs are sorted.
        needs: fields of which at least one must be given.
        anew: why it always makes a new directory; empty where it can also change SRC itself.
        together: as `dcpctl edit` takes it, where that is one word.
        by_options: in `dcpctl edit` any of its options asks for it, and all of them for one edit;
            says what is wrong where other edits stand between them. Empty for other verbs.
        only: what `dcpctl edit` says of the verb alone, where it has no words.
        joins: it puts the parts of a save together; other verbs are made of each part alone.
    """

    __slots__ = ()

    verb: ClassVar[str]
    order: ClassVar[int] = 1000
    needs: ClassVar[tuple[str, ...]] = ()
    anew: ClassVar[str] = ""
    together: ClassVar[Together | None] = None
    by_options: ClassVar[str] = ""
    only: ClassVar[str] = ""
    joins: ClassVar[bool] = False

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit; reads no tensor and writes nothing.

        Args:
            draft: the checkpoint.
            open_: opens a checkpoint that the edit names.

        Raises:
            DcpctlError: of any kind.
        """
        raise NotImplementedError


V = TypeVar("V", bound=Verb)


def options_of(verb: type[Verb]) -> list[tuple[str, Option]]:
    """Return the options of a verb, each with the name of its field, in their order."""
    found: list[Any] = list(dataclasses.fields(verb))  # type: ignore[arg-type]
    return [(one.name, option) for one in found for option in one.metadata.get(OPTIONS, ())]


def words_of(verb: type[Verb]) -> tuple[str, Option] | None:
    """Return the words behind DST, if the verb takes any."""
    plain = ((name, o) for name, o in options_of(verb) if not o.flags and not o.in_file)
    return next(plain, None)


def build(verb: type[V], values: Iterable[tuple[str, Option, Any]]) -> V:
    """Make a verb of its options.

    Args:
        verb: which.
        values: name of the field, option and value, in the order in which they were given.

    Raises:
        UsageError: two options give one field different values.
    """
    fields: dict[str, Any] = {}
    told: dict[str, Option] = {}
    for name, option, value in values:
        if option.kind.many:
            fields[name] = (*fields.get(name, ()), *value)
        elif name in fields and fields[name] != value:
            raise UsageError(f"{told[name].flag} and {option.flag} contradict")
        else:
            fields[name] = value
            told[name] = option
    return verb(**fields)


def summary(verb: type[Verb]) -> str:
    """The first sentence of a verb's help."""
    return " ".join(help_of(verb).partition("\n\n")[0].split())


def help_of(verb: type[Verb]) -> str:
    """A verb's help: its docstring."""
    return cleandoc(verb.__doc__ or "")


@cache
def own() -> Mapping[str, type[Verb]]:
    """Return the verbs of this package: those of its modules that define one of their name."""
    from dcpctl import surgery

    names = sorted(module.name for module in pkgutil.iter_modules(surgery.__path__))
    found = [verb for verb in map(_own, names) if verb is not None]
    return {verb.verb: verb for verb in sorted(found, key=lambda verb: verb.order)}


@cache
def _own(name: str) -> type[Verb] | None:
    if find_spec(f"dcpctl.surgery.{name}") is None:
        return None
    module = importlib.import_module(f"dcpctl.surgery.{name}")
    classes = (value for value in vars(module).values() if isinstance(value, type))
    return next((c for c in classes if issubclass(c, Verb) and vars(c).get("verb") == name), None)


def plugins() -> Mapping[str, Any]:
    """Return the entry points of other distributions' verbs; those of own names are passed over."""
    return {one.name: one for one in entry_points(ENTRY_POINTS) if one.name not in own()}


def find(name: str) -> type[Verb] | None:
    """Return the verb of a name.

    Raises:
        UsageError: a distribution that adds it is broken.
    """
    known = _own(name) if name.isidentifier() else None
    if known is not None:
        return known
    entry = plugins().get(name)
    if entry is None:
        return None
    try:
        verb: Any = entry.load()
    except Exception as error:  # whatever somebody's module raises
        raise UsageError(
            f"the verb {quote(name)} of {quote(entry.value)} cannot be loaded: {error}"
        ) from error
    if not _is_verb(verb) or verb.verb != name:
        raise UsageError(f"{quote(entry.value)} is no dataclass of a verb {quote(name)}")
    found: type[Verb] = verb
    return found


def _is_verb(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Verb) and dataclasses.is_dataclass(value)


@cache
def all_verbs() -> Mapping[str, type[Verb]]:
    """Return all verbs by name, in the order of the help.

    A plugin that is broken is not among them, and says so where it is asked for.
    """
    found = dict(own())
    for name in plugins():
        try:
            verb = find(name)
        except DcpctlError:
            continue
        if verb is not None:
            found[name] = verb
    return found
