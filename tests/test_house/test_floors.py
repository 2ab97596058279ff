"""Imports point down only, and the heavy packages stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "dcpctl"

FLOORS = {
    "cli": 6,
    "reports": 5,
    "inspect": 4,
    "check": 4,
    "diff": 4,
    "surgery": 4,
    "repair": 4,
    "signature": 4,
    "training": 4,
    "writing": 3,
    "model": 2,
    "formats": 1,
    "storage": 0,
}
#: Importable from anywhere; what each may itself import of ours.
ANYWHERE = {
    "errors": set(),
    "limits": set(),
    "parallel": {"errors"},
    "progress": set(),
    "text": set(),
    "torch_bridge": {"errors"},
}
#: The package's own doors.
DOORS = {"__init__", "__main__"}

HEAVY = {"torch", "numpy", "tabulate", "rich", "typer", "zstandard", "ml_dtypes"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imports(path: Path, *, typing: bool = True, lazy: bool = True) -> set[str]:
    """The absolute dotted names that a module imports.

    Without `typing`, what stands below `if TYPE_CHECKING` is left out; without `lazy`, what
    functions import.
    """
    package = ("dcpctl", *path.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(), str(path))]
    while pending:
        node = pending.pop()
        if not lazy and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{stem}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def ours(names: set[str]) -> set[str]:
    """The top-level modules and folders of dcpctl among imported names."""
    parts = {name.split(".")[1] for name in names if name.startswith("dcpctl.")}
    return {part for part in parts if part in FLOORS or part in ANYWHERE or part in DOORS}


def test_every_module_stands_on_a_floor() -> None:
    tops = {name_of(path).split("/")[0] for path in modules()}
    assert tops <= set(FLOORS) | set(ANYWHERE) | DOORS


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_down(path: Path) -> None:
    top = name_of(path).split("/")[0]
    if top in DOORS:
        return
    for other in ours(imports(path)) - {top}:
        assert other != "training", f"{top} imports training, which imports torch at once"
        if top in ANYWHERE:
            assert other in ANYWHERE[top], f"{top} imports {other}"
        elif other in FLOORS:
            assert FLOORS[other] < FLOORS[top], f"{top} imports {other}, which is not below it"
        else:
            assert other in ANYWHERE or other == "__init__", f"{top} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_torch_is_imported_in_one_place(path: Path) -> None:
    if name_of(path).startswith("training/"):
        return  # the guards of a training script, where torch runs anyway
    if name_of(path) != "torch_bridge":
        assert "torch" not in roots(imports(path, typing=False))
    assert "torch" not in roots(imports(path, typing=False, lazy=False))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_light_modules_are_light(path: Path) -> None:
    name = name_of(path)
    loaded = roots(imports(path, typing=False, lazy=False))
    if name in ANYWHERE or name in DOORS:
        assert not loaded & HEAVY
    if name.startswith("cli/"):
        assert not loaded & {"torch", "numpy", "tabulate", "zstandard", "ml_dtypes"}
    if not name.startswith(("cli/", "reports/")):
        assert not loaded & {"typer", "rich", "tabulate"}, "printing is for cli and reports"
