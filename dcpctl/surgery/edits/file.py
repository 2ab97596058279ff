"""`edits.toml`: a list of edits that can be reviewed and made again.

[[edits]]
verb = "rename"
prefix = { "model." = "net." }

[[edits]]
verb = "set"
values = { lr = 1e-4, "optimizer.param_groups.0.betas" = [0.9, 0.99] }
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dcpctl import limits
from dcpctl.documents import addresses
from dcpctl.documents.fields import Document, Table, shown, suggestion
from dcpctl.documents.files import Kind
from dcpctl.documents.lines import Where
from dcpctl.errors import DcpctlError, UsageError, quote
from dcpctl.surgery.verbs import Verb, all_verbs, build, find, options_of, summary

SCHEMA = "dcpctl.edits/1"
_KIND = Kind("list of edits", UsageError, limits.EDITS_BYTES)


def read_edits(path: Path) -> tuple[Verb, ...]:
    """Read the edits of a TOML file, in their order.

    Paths in it are relative to its directory.

    Raises:
        ReadFailed: it cannot be read.
        UsageError: it is no TOML, or not a list of edits.
    """
    document = Document.of_toml(path, _KIND)
    listed = document.found.get("edits")
    if not isinstance(listed, list) or not listed or set(document.found) != {"edits"}:
        raise UsageError(
            f"{quote(path)} holds no list of edits",
            hint='each begins with [[edits]] and verb = "…"',
        )
    return tuple(
        _edit(Table(document, ("edits", number), item, f"edit {number + 1}"), path.parent)
        for number, item in enumerate(listed)
    )


def edits_of(listed: Sequence[Mapping[str, Any]]) -> tuple[Verb, ...]:
    """Make edits of what such a file would hold; paths are relative to the working directory.

    Raises:
        UsageError: it is not a list of edits.
    """
    document = _Given(Path(), b"", _KIND, {"edits": [*listed]})
    return tuple(
        _edit(Table(document, (), dict(item), _label(number, item, len(listed))), Path())
        for number, item in enumerate(listed, 1)
    )


class _Given(Document):
    """Edits that stand in no file."""

    def error(self, where: Where, message: str, hint: str | None = None) -> DcpctlError:
        """Return an error without a file and a line."""
        return self.kind.error(message, hint=hint)


def _label(number: int, item: Mapping[str, Any], of: int) -> str:
    return f"edit {number}" if of > 1 else str(item.get("verb", "edit"))


def _edit(table: Table, base: Path) -> Verb:
    verb = _verb(table)
    options = [(name, option) for name, option in options_of(verb) if option.key]
    given = []
    for name, option in options:
        table.known.append(option.key)
        if option.key in table.rest:
            value = _value(table, option.key, option.kind.take, base)
            given.append((name, option, value))
        elif option.required:
            raise _fault(table, f"no {option.key}")
    for key in table.rest:
        raise table.wrong(key, f"unknown field {quote(key)}", suggestion(key, table.known))
    if verb.needs and not {name for name, _, value in given if value} & set(verb.needs):
        keys = [option.key for name, option in options if name in verb.needs]
        none = f"neither {' nor '.join(keys)}" if len(keys) < 4 else f"none of {', '.join(keys)}"
        raise _fault(table, none)
    return build(verb, given)


def _verb(table: Table) -> type[Verb]:
    name = table.rest.pop("verb", None)
    if name is not None and not isinstance(name, str):
        raise table.wrong("verb", f"verb is {quote(shown(name))}, expected str")
    verb = None if name is None else find(name)
    if verb is None:
        said = "no verb" if name is None else f"unknown verb {quote(name)}"
        raise _fault(table, said, f"one of {', '.join(all_verbs())}")
    return verb


def _value(table: Table, key: str, take: Callable[[Any, Path], Any], base: Path) -> Any:
    """What a field gives; what is wrong with it is said with its line."""
    try:
        return take(table.rest.pop(key), base)
    except ValueError as error:
        raise table.wrong(key, f"{key} {error}") from None
    except UsageError as error:
        raise table.wrong(key, error.message, error.hint) from None


def _fault(table: Table, message: str, hint: str | None = None) -> DcpctlError:
    """An error about an edit itself."""
    return table.document.error(table.where, f"{table.label}: {message}", hint)


def edits_schema() -> dict[str, Any]:
    """Return the JSON Schema of `edits.toml`, of the verbs that there are."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": addresses.schema(SCHEMA),
        "title": "edits.toml",
        "description": "Edits in their order, for dcpctl edit --edits.",
        "type": "object",
        "properties": {
            "edits": {
                "type": "array",
                "minItems": 1,
                "items": {"oneOf": [_schema(verb) for verb in all_verbs().values()]},
            }
        },
        "required": ["edits"],
        "additionalProperties": False,
    }


def _schema(verb: type[Verb]) -> dict[str, Any]:
    options = [(name, option) for name, option in options_of(verb) if option.key]
    fields = {
        option.key: {"description": option.help, **option.kind.schema} for _, option in options
    }
    found: dict[str, Any] = {
        "description": summary(verb),
        "properties": {"verb": {"const": verb.verb}, **fields},
        "required": ["verb", *(option.key for _, option in options if option.required)],
        "additionalProperties": False,
    }
    if verb.needs:
        keys = (option.key for name, option in options if name in verb.needs)
        found["anyOf"] = [{"required": [key]} for key in keys]
    return found
