"""How the fields of a verb are given: options, and the kinds of values that they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcpctl.errors import UsageError, quote

#: What a section of a checkpoint that a verb can be about is called.
SECTIONS = ("model", "optimizer")
#: Where the metadata of a dataclass's field has its options.
OPTIONS = "options"


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


def given(*options: Option) -> Any:
    """A field of a verb, and the options that give it; its default is that of their kind."""
    kinds = [option.kind for option in options]
    metadata = {OPTIONS: options}
    if any(option.required for option in options):
        return field(metadata=metadata)
    default: Any = () if kinds[0].many else None
    if kinds[0].word is bool and not options[0].in_file and kinds[0].read is bool:
        default = False
    return field(default=default, metadata=metadata)


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
