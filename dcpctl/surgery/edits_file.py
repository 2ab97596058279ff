"""`edits.toml`: a list of edits that can be reviewed and made again.

[[edits]]
verb = "rename"
prefix = { "model." = "net." }

[[edits]]
verb = "set"
values = { lr = 1e-4, "optimizer.param_groups.0.betas" = [0.9, 0.99] }
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dcpctl.errors import ReadFailed, UsageError, quote
from dcpctl.formats.toml_text import parse_toml
from dcpctl.model import rename_rules as rules
from dcpctl.surgery import edits
from dcpctl.surgery.cast import dtype_named
from dcpctl.surgery.set import Assignment

_MAX_BYTES = 16 << 20
SECTIONS = ("model", "optimizer")


def read_edits(path: Path) -> tuple[edits.Edit, ...]:
    """Read the edits of a TOML file, in their order.

    Paths in it are relative to its directory.

    Raises:
        ReadFailed: it cannot be read.
        UsageError: it is no TOML, or not a list of edits.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{quote(path)} is too large for a list of edits")
        document = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReadFailed(f"cannot read {quote(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{quote(path)} cannot be parsed: {error}") from None
    listed = document.get("edits")
    if not isinstance(listed, list) or not listed or set(document) != {"edits"}:
        raise UsageError(
            f"{quote(path)} holds no list of edits",
            hint='each begins with [[edits]] and verb = "…"',
        )
    return tuple(
        _edit(_Fields(f"{path}, edit {n}", item), path) for n, item in enumerate(listed, 1)
    )


class _Fields:
    """The fields of one edit; refuses those of a wrong type and those that nobody asks for."""

    def __init__(self, where: str, item: Any) -> None:
        self.where = where
        if not isinstance(item, Mapping):
            raise UsageError(f"{where}: expected a table")
        self.rest = dict(item)

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        if name not in self.rest:
            return default
        value = self.rest.pop(name)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(k.__name__ for k in kinds)
            raise UsageError(f"{self.where}: {name} is {quote(repr(value))}, expected {names}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.take(name, (str, list), [])
        items = [value] if isinstance(value, str) else value
        if not all(isinstance(item, str) for item in items):
            raise UsageError(f"{self.where}: {name} is no list of texts")
        return tuple(items)

    def pairs(self, name: str) -> list[tuple[str, str]]:
        found = self.take(name, dict, {})
        if not all(isinstance(new, str) for new in found.values()):
            raise UsageError(f"{self.where}: {name} is no table of names, old to new")
        return list(found.items())

    def done(self) -> None:
        if self.rest:
            raise UsageError(f"{self.where}: unknown field {quote(next(iter(self.rest)))}")


def _edit(fields: _Fields, path: Path) -> edits.Edit:
    verb = fields.take("verb", str)
    read = _VERBS.get(verb or "")
    if read is None:
        raise UsageError(
            f"{fields.where}: {'no verb' if verb is None else f'unknown verb {quote(verb)}'}",
            hint=f"one of {', '.join(_VERBS)}",
        )
    edit = read(fields, path.parent)
    fields.done()
    return edit


def _rename(fields: _Fields, base: Path) -> edits.Edit:
    made: list[rules.Rule] = [rules.Literal(old, new) for old, new in fields.pairs("names")]
    made += [rules.Prefix(old, new) for old, new in fields.pairs("prefix")]
    made += [rules.compiled(old, new) for old, new in fields.pairs("regex")]
    made += [rules.table(base / name) for name in fields.texts("map")]
    if not made:
        raise UsageError(f"{fields.where}: none of names, prefix, regex, map")
    return edits.Rename(tuple(made), fields.take("keys_only", bool, False), _of(fields))


def _of(fields: _Fields) -> tuple[tuple[str, str], ...]:
    """`optimizer_of`: a table of optimizers and their models."""
    return tuple(fields.pairs("optimizer_of"))


def _section(fields: _Fields) -> str | None:
    section: str | None = fields.take("section", str)
    if section is not None and section not in SECTIONS:
        raise UsageError(f"{fields.where}: section is {' or '.join(SECTIONS)}")
    return section


def _drop(fields: _Fields, base: Path) -> edits.Edit:
    state = fields.take("with_state", bool, False)
    return edits.Drop(fields.texts("keys"), _section(fields), state, _of(fields))


def _select(fields: _Fields, base: Path) -> edits.Edit:
    state = fields.take("with_state", bool, False)
    return edits.Select(fields.texts("keys"), _section(fields), state, _of(fields))


def _set(fields: _Fields, base: Path) -> edits.Edit:
    values = fields.take("values", dict, {})
    nulls = fields.texts("null")
    made = [Assignment(target, value) for target, value in _flat(values)]
    made += [Assignment(target, None) for target in nulls]
    added = [Assignment(target, value) for target, value in _flat(fields.take("add", dict, {}))]
    if not made and not added:
        raise UsageError(f"{fields.where}: neither values nor null nor add")
    change = fields.take("change_type", bool, False)
    return edits.Set(tuple(made), change, fields.take("fill", bool, False), tuple(added))


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Targets of a table; dotted keys without quotes are nested tables in TOML."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return found


def _cast(fields: _Fields, base: Path) -> edits.Edit:
    dtype = fields.take("dtype", str)
    if dtype is None:
        raise UsageError(f"{fields.where}: no dtype")
    lossy = fields.take("allow_lossy", bool, False)
    return edits.Cast(dtype_named(dtype), fields.texts("keys"), lossy)


def _merge(fields: _Fields, base: Path) -> edits.Edit:
    return edits.Merge(tuple(base / name for name in fields.texts("with")))


def _upgrade(fields: _Fields, base: Path) -> edits.Edit:
    names = ("torch", "optimizer", "optimizer_keys", "fill_missing_state")
    given = {name: fields.take(name, str) for name in names}
    wrappers = fields.take("wrappers", bool)
    return edits.Upgrade(**given, wrappers=wrappers, optimizer_of=_of(fields))


def _reshard(fields: _Fields, base: Path) -> edits.Edit:
    mesh = fields.take("mesh", dict)
    like = fields.take("like", str)
    if mesh is not None and not all(isinstance(size, int) for size in mesh.values()):
        raise UsageError(f"{fields.where}: mesh is no table of axes and sizes")
    return edits.Reshard(
        fields.take("world_size", int),
        mesh,
        fields.take("placements", dict),
        None if like is None else base / like,
        _of(fields),
    )


_VERBS: dict[str, Callable[[_Fields, Path], edits.Edit]] = {
    "rename": _rename,
    "drop": _drop,
    "select": _select,
    "set": _set,
    "cast": _cast,
    "merge": _merge,
    "upgrade": _upgrade,
    "reshard": _reshard,
}
