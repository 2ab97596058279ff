"""Imports point down only, and the heavy packages stay where they belong.

Each module is parsed once, into what it imports: when it is imported itself, when it runs, and for
types alone. Every test is an assertion over that graph and names all offenders.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

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
ANYWHERE: dict[str, set[str]] = {
    "documents": {"errors", "limits"},
    "errors": set(),
    "limits": set(),
    "parallel": set(),
    "processes": {"errors", "parallel"},
    "plugins": set(),
    "progress": set(),
    "text": set(),
    "torch_bridge": {"errors"},
}
#: The package's own doors.
DOORS = {"__init__", "__main__", "api"}

HEAVY = {"torch", "numpy", "tabulate", "rich", "typer", "zstandard", "ml_dtypes"}
#: Modules that serve exactly one other; each has to be a subject of its own. It is to fall.
MOST_SERVING_ONE = 120


@dataclass(frozen=True)
class Module:
    """What a module imports, as absolute dotted names.

    Attributes:
        name: such as `model/entry`; a folder's `__init__` has the folder's name.
        at_once: by importing it.
        lazily: by its functions, when they run.
        for_types: for annotations alone, below `if TYPE_CHECKING`.
    """

    name: str
    at_once: set[str] = field(default_factory=set)
    lazily: set[str] = field(default_factory=set)
    for_types: set[str] = field(default_factory=set)

    @property
    def top(self) -> str:
        """The folder or file of the package that it is, or lies in."""
        return self.name.split("/")[0]

    @property
    def running(self) -> set[str]:
        """All that it imports when it is imported or runs."""
        return self.at_once | self.lazily

    @property
    def everything(self) -> set[str]:
        """All that it names in an import."""
        return self.running | self.for_types


@cache
def modules() -> dict[str, Module]:
    """Every module of the package by its name."""
    return {module.name: module for module in map(parsed, sorted(PACKAGE.rglob("*.py")))}


def parsed(path: Path) -> Module:
    """Read what one file imports."""
    inside = path.relative_to(PACKAGE)
    module = Module(inside.with_suffix("").as_posix())
    package = ("dcpctl", *inside.parent.parts)
    tree: ast.AST = ast.parse(path.read_text(), str(path))
    nodes = [(tree, module.at_once)]
    while nodes:
        node, found = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and found is module.at_once:
            found = module.lazily
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += [(child, module.for_types) for child in node.body]
            nodes += [(child, found) for child in node.orelse]
            continue
        found |= set(imported(node, package))
        nodes += [(child, found) for child in ast.iter_child_nodes(node)]
    return module


def imported(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The absolute names that a statement in a module of `package` imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        stem = ".".join([*base, *([node.module] if node.module else [])])
        yield from (f"{stem}.{alias.name}" for alias in node.names)


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def ours(names: set[str]) -> set[str]:
    """The top-level modules and folders of dcpctl among imported names."""
    parts = {name.split(".")[1] for name in names if name.startswith("dcpctl.")}
    return {part for part in parts if part in FLOORS or part in ANYWHERE or part in DOORS}


def targets(names: set[str]) -> set[str]:
    """The modules of the package among imported names, of which the last part may be a member."""
    found = set()
    for name in names:
        parts = name.split(".")
        while parts[0] == "dcpctl" and len(parts) > 1:
            path = "/".join(parts[1:])
            if path in modules() or f"{path}/__init__" in modules():
                found.add(path if path in modules() else f"{path}/__init__")
                break
            parts.pop()
    return found


def test_the_graph_is_read_right() -> None:
    app = modules()["cli/app"]
    assert "typer.Typer" not in app.everything
    assert "typer" in app.at_once
    assert "dcpctl.cli.shell.Shell" in app.at_once
    bridge = modules()["torch_bridge"]
    assert "torch" in bridge.for_types
    assert "numpy" in bridge.lazily
    assert "errors" in targets(bridge.at_once)


def test_every_module_stands_on_a_floor() -> None:
    tops = {module.top for module in modules().values()}
    assert tops <= set(FLOORS) | set(ANYWHERE) | DOORS


def allowed(top: str, other: str) -> bool:
    """Whether a module of `top` may import one of `other`."""
    if other == "training":  # which imports torch at once
        return False
    if top in ANYWHERE:
        return other in ANYWHERE[top]
    if other in FLOORS:
        return FLOORS[other] < FLOORS[top]
    return other in ANYWHERE or other == "__init__"


def test_imports_point_down() -> None:
    wrong = {
        (module.name, other)
        for module in modules().values()
        if module.top not in DOORS
        for other in ours(module.everything) - {module.top}
        if not allowed(module.top, other)
    }
    assert wrong == set()


def test_imports_go_round_in_no_circle() -> None:
    graph = {module.name: targets(module.at_once) - {module.name} for module in modules().values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
    else:
        circle = ""
    assert circle == ""


def test_torch_is_imported_in_one_place() -> None:
    # training/ holds the guards of a training script, where torch runs anyway.
    rest = [module for module in modules().values() if module.top != "training"]
    assert {one.name for one in rest if "torch" in roots(one.at_once)} == set()
    assert {one.name for one in rest if "torch" in roots(one.lazily)} <= {"torch_bridge"}


def test_light_modules_are_light() -> None:
    heavy = {module.name: roots(module.at_once) & HEAVY for module in modules().values()}
    doors = {name: found for name, found in heavy.items() if name in ANYWHERE or name in DOORS}
    commands = {name: found for name, found in heavy.items() if name.startswith("cli/")}
    silent = {n: found for n, found in heavy.items() if not n.startswith(("cli/", "reports/"))}
    assert {name for name, found in doors.items() if found} == set()
    assert {name for name, found in commands.items() if found - {"typer", "rich"}} == set()
    # Printing is for cli and reports.
    assert {
        name for name, found in silent.items() if found & {"typer", "rich", "tabulate"}
    } == set()


def test_few_modules_serve_one_other() -> None:
    users: dict[str, set[str]] = {}
    for module in modules().values():
        for other in targets(module.everything) - {module.name}:
            users.setdefault(other, set()).add(module.name)
    single = sorted(n for n, by in users.items() if len(by) == 1 and not n.endswith("__init__"))
    assert len(single) <= MOST_SERVING_ONE, f"{len(single)} modules serve one other: {single}"
