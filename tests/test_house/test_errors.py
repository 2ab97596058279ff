"""Errors say what, and what to do; reports take the two apart."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import dcpctl
from dcpctl import errors

PACKAGE = Path(dcpctl.__file__).parent
OURS = {name for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.DcpctlError)}  # fmt: skip


def test_the_text_of_an_error_has_its_hint() -> None:
    error = errors.Refused("'dst' exists", hint="--overwrite replaces it")
    assert str(error) == "'dst' exists\n  hint: --overwrite replaces it"
    assert error.message == "'dst' exists"
    assert str(errors.Refused("'dst' exists")) == "'dst' exists"


@pytest.mark.parametrize("name", sorted(OURS))
def test_errors_cross_processes(name: str) -> None:
    error = getattr(errors, name)("what", hint="how")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.hint) == (type(error), "what", "how")


def test_a_missing_package_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="needs torch"):
        raise errors.MissingDependency("needs torch", hint="pip install 'dcpctl[torch]'")


def texts_of_errors(path: Path) -> Iterator[str]:
    """Where a module takes `str(error)` or `{error}` of an error of ours, hint and all."""
    for handler in ast.walk(ast.parse(path.read_text(), str(path))):
        if not isinstance(handler, ast.ExceptHandler) or handler.type is None:
            continue
        if not {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} <= OURS:
            continue
        for node in ast.walk(handler):
            taken = None
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"str", "printable"}:
                taken = node.args[0]
            elif isinstance(node, ast.FormattedValue):
                taken = node.value
            if isinstance(taken, ast.Name) and taken.id == handler.name:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_no_report_has_a_hint_inside_a_message() -> None:
    found = [where for path in sorted(PACKAGE.rglob("*.py")) for where in texts_of_errors(path)]
    assert found == [], "an error's message is .message; str() has the hint too"
