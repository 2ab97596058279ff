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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dcpctl.errors import DcpctlError, UsageError, quote
from dcpctl.plugins import entry_points

if TYPE_CHECKING:
    from dcpctl.model.checkpoint import Checkpoint
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome

#: Opens a checkpoint that an edit names; whoever passes it closes them all.
Open = Callable[[Path], "Checkpoint"]
#: Group of the entry points by which other distributions add verbs.
ENTRY_POINTS = "dcpctl.verbs"
#: What a section of a checkpoint that a verb can be about is called.
SECTIONS = ("model", "optimizer")
_OPTIONS = "options"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How values of an option are written.

    Attributes:
        word: what the command line makes of a word before `read`: str, int, Path or bool.
        read: makes a value of that.
        take: makes a value of what stands in a file, with the directory that paths are relative to;
            raises ValueError with the rest of a sentence (`is no list of texts`).
        schema: JSON Schema of what stands in a file.
        many: there may be several, and the field is a tuple of them.
    """

    word: type
    read: Callable[[Any], Any]
    take: Callable[[Any, Path], Any]
    schema: Mapping[str, Any]
    many: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One way to give a field of a verb.

    Attributes:
        flags: on the command line, the long one first; empty for words behind DST.
        kind: how its values are written.
        help: half a sentence.
        metavar: what stands for a value in the help.
        key: in a file; empty where it cannot be given there.
        step: the help of `dcpctl edit` where it gives an edit there; empty for `help`.
        beside: what follows `For --drop and --select:` in the help of `dcpctl edit`.
        least: the least integer.
        required: there is no default.
        in_file: it can be given in a file alone.
        sources: its words are checkpoints, and SRC is the first of them.
    """

    flags: tuple[str, ...]
    kind: Kind
    help: str = ""
    metavar: str | None = None
    key: str = ""
    step: str = ""
    beside: str = ""
    least: int | None = None
    required: bool = False
    in_file: bool = False
    sources: bool = False

    @property
    def flag(self) -> str:
        """The long one, of `--yes/--no` the first."""
        return self.flags[0].partition("/")[0] if self.flags else ""


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Several fields that `dcpctl edit` takes as one word, each word an edit of its own.

    Attributes:
        metavar: what stands for it in the help.
        help: half a sentence.
        read: makes the fields of a word.
    """

    metavar: str
    help: str
    read: Callable[[str], dict[str, Any]]


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


def given(*options: Option) -> Any:
    """A field of a verb, and the options that give it; its default is that of their kind."""
    kinds = [option.kind for option in options]
    metadata = {_OPTIONS: options}
    if any(option.required for option in options):
        return field(metadata=metadata)
    default: Any = () if kinds[0].many else None
    if kinds[0].word is bool and not options[0].in_file and kinds[0].read is bool:
        default = False
    return field(default=default, metadata=metadata)


def options_of(verb: type[Verb]) -> list[tuple[str, Option]]:
    """Return the options of a verb, each with the name of its field, in their order."""
    found: list[Any] = list(dataclasses.fields(verb))  # type: ignore[arg-type]
    return [(one.name, option) for one in found for option in one.metadata.get(_OPTIONS, ())]


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


# Kinds.


def _same(value: Any) -> Any:
    return value


def of_type(*types: type) -> Callable[[Any, Path], Any]:
    """Take a value of one of some types, as `Kind.take` does."""
    names = " or ".join(one.__name__ for one in types)

    def take(value: Any, base: Path) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            from dcpctl.documents.fields import shown

            raise ValueError(f"is {quote(shown(value))}, expected {names}")
        return value

    return take


def text(read: Callable[[str], Any] = _same, choices: Sequence[str] = ()) -> Kind:
    """One text; `choices` are said by the schema, and checked where the edit is made."""

    def take(value: Any, base: Path) -> Any:
        return read(of_type(str)(value, base))

    schema = {"enum": [*choices]} if choices else {"type": "string"}
    return Kind(str, read, take, schema)


def texts(read: Callable[[str], Any] = _same) -> Kind:
    """Several texts, or one; in a file a list."""

    def take(value: Any, base: Path) -> Any:
        found = of_type(str, list)(value, base)
        items = [found] if isinstance(found, str) else found
        if not all(isinstance(item, str) for item in items):
            raise ValueError("is no list of texts")
        return tuple(read(item) for item in items)

    strings = {"type": "array", "items": {"type": "string"}}
    return Kind(str, read, take, {"anyOf": [{"type": "string"}, strings]}, many=True)


def paths(read: Callable[[Path], Any] = _same) -> Kind:
    """Several files or directories; those in a file are relative to it."""
    names = texts()

    def take(value: Any, base: Path) -> Any:
        return tuple(read(base / name) for name in names.take(value, base))

    return Kind(Path, read, take, names.schema, many=True)


def path() -> Kind:
    """A file or directory; one in a file is relative to it."""

    def take(value: Any, base: Path) -> Any:
        return base / of_type(str)(value, base)

    return Kind(Path, _same, take, {"type": "string"})


def number() -> Kind:
    """An integer."""
    return Kind(int, _same, of_type(int), {"type": "integer"})


def flag() -> Kind:
    """Yes, or no."""
    return Kind(bool, bool, of_type(bool), {"type": "boolean"})


def switch() -> Kind:
    """Yes, no, or neither: flags as `--wrappers/--no-wrappers`."""
    return Kind(bool, _same, of_type(bool), {"type": "boolean"})


def constant(value: Any) -> Kind:
    """A flag that gives the field one value; it has no field in a file."""
    return Kind(bool, lambda _: value, of_type(bool), {})


def choice(*choices: str) -> Kind:
    """One of several texts, in a file."""

    def take(value: Any, base: Path) -> Any:
        if of_type(str)(value, base) not in choices:
            raise ValueError(f"is {' or '.join(choices)}")
        return value

    return Kind(str, _same, take, {"enum": [*choices]})


def pairs(read: Callable[[str], Any], make: Callable[[str, str], Any]) -> Kind:
    """Names and what they become: `OLD=NEW`, in a file a table."""

    def take(value: Any, base: Path) -> Any:
        found = of_type(dict)(value, base)
        if not all(isinstance(new, str) for new in found.values()):
            raise ValueError("is no table of names, old to new")
        return tuple(make(old, new) for old, new in found.items())

    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    return Kind(str, read, take, schema, many=True)


def settings(read: Callable[[str], Any], make: Callable[[str, Any], Any]) -> Kind:
    """Names and values: `KEY=VALUE`, in a file a table; dotted keys in TOML are nested tables."""

    def take(value: Any, base: Path) -> Any:
        return tuple(make(key, item) for key, item in _flat(of_type(dict)(value, base)))

    return Kind(str, read, take, {"type": "object"}, many=True)


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return found


# Options that several verbs have.


def pair_of(text: str) -> tuple[str, str]:
    """Read `OPTIMIZER=MODEL`; the model at top level has an empty name.

    Raises:
        UsageError: it has no `=`, or no optimizer.
    """
    optimizer, sign, model = text.partition("=")
    if not sign or not optimizer:
        raise UsageError(f"expected OPTIMIZER=MODEL, got {quote(text)}")
    return optimizer, model


#: Of verbs for which it matters which optimizer belongs to which model, their field `optimizer_of`.
OPTIMIZER_OF = Option(
    ("--optimizer-of",),
    pairs(pair_of, lambda optimizer, model: (optimizer, model)),
    metavar="OPTIMIZER=MODEL",
    help="Which model an optimizer trains, where several fit.",
    key="optimizer_of",
)
#: Which keys a verb is about, the field `section`.
SECTION = (
    Option(("--model-only",), constant("model"), help="Only keys of the model."),
    Option(("--optimizer-only",), constant("optimizer"), help="Only keys of the optimizer."),
    Option((), choice(*SECTIONS), key="section", help="Only keys of this section.", in_file=True),
)


def globs(step: str = "") -> Option:
    """The keys that a verb is about, its words.

    Args:
        step: the help of `dcpctl edit`.
    """
    return Option(
        (),
        texts(),
        metavar="GLOB",
        help="Keys, as a shell has it; model.layers.0 is all of that layer.",
        key="keys",
        step=step,
    )


# Finding them.


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
    if not _is_verb(verb):
        raise UsageError(f"{quote(entry.value)} is no dataclass of a verb")
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
