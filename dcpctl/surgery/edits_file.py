"""`edits.toml`: a list of edits that can be reviewed and made again.

[[edits]]
verb = "rename"
prefix = { "model." = "net." }

[[edits]]
verb = "set"
values = { lr = 1e-4, "optimizer.param_groups.0.betas" = [0.9, 0.99] }
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dcpctl import limits
from dcpctl.documents.fields import Document, Table, shown, suggestion
from dcpctl.documents.files import Kind
from dcpctl.errors import DcpctlError, UsageError, quote
from dcpctl.model import rename_rules as rules
from dcpctl.surgery import edits
from dcpctl.surgery.cast import dtype_named
from dcpctl.surgery.set import Assignment

_KIND = Kind("list of edits", UsageError, limits.EDITS_BYTES)
SECTIONS = ("model", "optimizer")


def read_edits(path: Path) -> tuple[edits.Edit, ...]:
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
        _edit(_Fields(document, ("edits", n), item, f"edit {n + 1}"), path)
        for n, item in enumerate(listed)
    )


class _Fields(Table):
    """The fields of one edit."""

    def take(self, key: str, kind: Any, default: Any = None) -> Any:
        """Return a field, as `Table.take`; messages name types as Python does."""
        kinds = kind if isinstance(kind, tuple) else (kind,)
        value = self.rest.get(key, default)
        if value is not default and (
            not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        ):
            names = " or ".join(one.__name__ for one in kinds)
            raise self.wrong(key, f"{key} is {quote(shown(value))}, expected {names}")
        return super().take(key, kind, default)

    def texts(self, key: str, among: Iterable[str] = ()) -> tuple[str, ...]:
        """Return a list of texts; a text alone is a list of one."""
        value = self.take(key, (str, list), [])
        items = [value] if isinstance(value, str) else value
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(key, f"{key} is no list of texts")
        return tuple(items)

    def pairs(self, key: str) -> list[tuple[str, str]]:
        """Return a table of names, old to new, as pairs."""
        found = self.take(key, dict, {})
        if not all(isinstance(new, str) for new in found.values()):
            raise self.wrong(key, f"{key} is no table of names, old to new")
        return list(found.items())

    def fault(self, message: str, hint: str | None = None) -> DcpctlError:
        """Return an error about the edit itself."""
        return self.document.error(self.where, f"{self.label}: {message}", hint)

    def done(self) -> None:
        """Refuse what nobody has taken."""
        for key in self.rest:
            hint = suggestion(key, self.known)
            raise self.wrong(key, f"unknown field {quote(key)}", hint)


def _edit(fields: _Fields, path: Path) -> edits.Edit:
    verb = fields.take("verb", str)
    read = _VERBS.get(verb or "")
    if read is None:
        said = "no verb" if verb is None else f"unknown verb {quote(verb)}"
        raise fields.fault(said, f"one of {', '.join(_VERBS)}")
    edit = read(fields, path.parent)
    fields.done()
    return edit


def _rename(fields: _Fields, base: Path) -> edits.Edit:
    made: list[rules.Rule] = [rules.Literal(old, new) for old, new in fields.pairs("names")]
    made += [rules.Prefix(old, new) for old, new in fields.pairs("prefix")]
    made += [rules.compiled(old, new) for old, new in fields.pairs("regex")]
    made += [rules.table(base / name) for name in fields.texts("map")]
    if not made:
        raise fields.fault("none of names, prefix, regex, map")
    return edits.Rename(tuple(made), fields.take("keys_only", bool, False), _of(fields))


def _of(fields: _Fields) -> tuple[tuple[str, str], ...]:
    """`optimizer_of`: a table of optimizers and their models."""
    return tuple(fields.pairs("optimizer_of"))


def _section(fields: _Fields) -> str | None:
    section: str | None = fields.take("section", str)
    if section is not None and section not in SECTIONS:
        raise fields.fault(f"section is {' or '.join(SECTIONS)}")
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
        raise fields.fault("neither values nor null nor add")
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
        raise fields.fault("no dtype")
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
        raise fields.fault("mesh is no table of axes and sizes")
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
