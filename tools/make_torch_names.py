"""Make the tables of the names that torch has, release by release, from its wheels.

    python -m tools.make_torch_names --download          # every release below, some 70 MB each
    python -m tools.make_torch_names --wheels DIRECTORY  # wheels that are there already

A release is read from its wheel for macOS on arm64, the smallest that PyPI has; nothing of it is
imported or executed. Python modules are parsed as they stand, the names of C extensions come from
the stubs in the wheel (`torch/_C/*.pyi`), and the dtypes without a stub (`int1`, `uint1`, ...) from
the header `c10/core/ScalarType.h`. (2.1 has float8 too, which its stubs leave out.) A module that
changes its own namespace in ways that parsing does not show counts as open: it may have any name.
`--installed` adds the names that torch has in
this Python at run time to those of its release, for `torch._C`, which has more than its stubs say.
torch 2.15.0 is not among them: no wheel of it was to be had.

Written are two files. `dcpctl/_data/torch_names.json`, for every reader:

- `releases`: release -> what it was read from;
- `dtypes`, `layouts`, `memory_formats`, `qschemes`: attribute of torch -> span;
- `storages`: storage class -> span;
- `safe`: global that `torch._weights_only_unpickler` allows, or that a module of torch lets it
  allow by `add_safe_globals` -> span;
- `calls`: function of those, and enum's constructor -> [fewest, most] arguments (most is null for
  any number);
- `classes`: class or function that a module of torch.distributed's checkpoints defines -> span;
- `enums`: enum of those modules -> its members' values.

`dcpctl/_data/torch_modules.json.gz`, for a pickle that names something else of torch: module ->
names that are in it, by the releases (a bit each, the oldest lowest) that have them.

A span is [first release, last release], the last null where the newest read still has it.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "dcpctl" / "_data"
NAMES, MODULES = DATA / "torch_names.json", DATA / "torch_modules.json.gz"
RELEASES = (
    *("1.13.1", "2.0.1", "2.1.2", "2.2.2", "2.3.1", "2.4.1", "2.5.1", "2.6.0", "2.7.1", "2.8.0"),
    *("2.9.1", "2.10.0", "2.11.0", "2.12.1", "2.13.0", "2.14.1"),
)
PLATFORMS = ("macosx_11_0_arm64", "macosx_14_0_arm64")
#: Modules whose classes the pickles of a checkpoint name.
PLACES = re.compile(
    r"torch\.distributed\.(checkpoint|_shard|tensor|_tensor|device_mesh|fsdp\._)(\..*)?"
)
#: Attribute annotations of the stubs -> section of the table.
KINDS = {
    "dtype": "dtypes",
    "layout": "layouts",
    "memory_format": "memory_formats",
    "qscheme": "qschemes",
}
#: Modules of which definitions are kept whole, for their arguments and values.
WHOLE = re.compile(
    r"torch\.(_utils|_tensor|_weights_only_unpickler|serialization|nested\..*)|" + PLACES.pattern
)
#: Packages of compilers and tests, whose names no checkpoint has: they are not read, and open.
UNREAD = tuple(
    f"torch.{name}"
    for name in ("testing", "_inductor", "_dynamo", "onnx", "_refs", "_decomp", "_functorch")
)
#: In an open module any name may be.
OPEN = "*"
#: Where torch allows classes of its own under weights_only, as their modules are imported.
SAFE = re.compile(r"\badd_safe_globals\(\s*\[([^\]]*)\]")
#: A module that changes its own namespace, or gives another in its place.
CHANGING = re.compile(r"\b(globals|vars|locals)\(\)|sys\.modules\b|setattr\(\s*\w*modul", re.I)


@dataclass
class Module:
    """What one module defines, and what else is in its namespace."""

    own: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    stars: list[str] = field(default_factory=list)
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    allowed: list[str] = field(default_factory=list)


@dataclass
class Release:
    """What one release has."""

    modules: dict[str, Module]
    sections: dict[str, set[str]]
    calls: dict[str, tuple[int, int | None]]
    enums: dict[str, list[int]]
    source: str


def read_wheel(path: Path) -> Release:
    """Read one wheel."""
    modules: dict[str, Module] = {}
    with zipfile.ZipFile(path) as wheel:
        scalars = ""
        for name in wheel.namelist():
            if name.endswith("core/ScalarType.h"):
                scalars += wheel.read(name).decode()
            place = _module_name(name)
            if place is not None:
                module = modules.setdefault(place, Module())
                text = wheel.read(name).decode()
                for given in SAFE.findall(text):
                    module.allowed += re.findall(r"[\w.]+", re.sub(r"#.*", "", given))
                if ".".join(place.split(".")[:2]) in UNREAD:
                    module.names.add(OPEN)
                else:
                    _read_module(text, module, place, name)
    for place in list(modules):
        above, _, last = place.rpartition(".")
        if above in modules:
            modules[above].names.add(last)
    for place in modules:
        _resolve_stars(place, modules, set())
    _add_torchs_own(modules)
    sections = _sections(modules, scalars)
    return Release(modules, sections, _calls(modules, sections["safe"]), _enums(modules), path.name)


def _module_name(name: str) -> str | None:
    """`torch/nn/__init__.py` -> `torch.nn`; None for what is no module of torch."""
    if not name.startswith("torch/") or not name.endswith((".py", ".pyi")):
        return None
    place = name.rsplit(".", 1)[0].replace("/", ".").removesuffix(".__init__")
    return place if all(part.isidentifier() for part in place.split(".")) else None


def _read_module(text: str, module: Module, place: str, file: str) -> None:
    whole = WHOLE.fullmatch(place) is not None
    package = place if file.endswith("__init__.py") else place.rpartition(".")[0]
    for node in _statements(ast.parse(text).body):
        if isinstance(node, ast.ClassDef):
            module.own.add(node.name)
            if whole:
                module.classes[node.name] = node
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            module.own.add(node.name)
            if whole and isinstance(node, ast.FunctionDef):
                module.functions[node.name] = node
        elif isinstance(node, ast.Import):
            module.names |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            _read_import(node, module, package)
        else:
            module.names |= set(_bound(node))
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                module.kinds[node.target.id] = ast.unparse(node.annotation)
    module.names |= module.own
    if "__getattr__" in module.own and place != "torch":
        module.names.add(OPEN)
    if CHANGING.search(text) and place != "torch":
        module.names.add(OPEN)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement at module level, also those inside if, try, for, while and with."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody", "handlers"):
            if isinstance(node, (ast.If, ast.Try, ast.For, ast.While, ast.With)):
                for part in getattr(node, name, ()):
                    inner = part.body if isinstance(part, ast.ExceptHandler) else [part]
                    yield from _statements(inner)


def _bound(node: ast.stmt) -> Iterator[str]:
    """Names that a statement which is no definition binds."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For)):
        targets = [node.target]
    elif isinstance(node, ast.With):
        targets = [item.optional_vars for item in node.items if item.optional_vars]
    for target in targets:
        for part in ast.walk(target):
            if isinstance(part, ast.Name):
                yield part.id


def _read_import(node: ast.ImportFrom, module: Module, package: str) -> None:
    source = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        source = ".".join([*above, *([source] if source else [])])
    for alias in node.names:
        if alias.name == "*":
            module.stars.append(source)
        else:
            module.names.add(alias.asname or alias.name)
            module.imported[alias.asname or alias.name] = f"{source}.{alias.name}"


def _resolve_stars(place: str, modules: dict[str, Module], seen: set[str]) -> set[str]:
    """Add what a module imports by `*`; it is open where that cannot be told."""
    module = modules[place]
    if place in seen:
        return module.names
    seen.add(place)
    for source in module.stars:
        if source in modules:
            module.names |= _resolve_stars(source, modules, seen)
        else:
            module.names.add(OPEN)
    return module.names


def _add_torchs_own(modules: dict[str, Module]) -> None:
    """What `torch/__init__.py` takes over from its C extension at run time."""
    top, extension = modules["torch"], modules["torch._C"]
    top.names |= {name for name in extension.names if not name.startswith("_")}
    top.names |= {name for name, kind in extension.kinds.items() if kind in KINDS}
    functions = modules.get("torch._C._VariableFunctions", Module())
    top.names |= functions.names
    top.names.discard(OPEN)
    # Of the extension itself the stubs leave out much.
    extension.names.add(OPEN)


def _sections(modules: dict[str, Module], scalars: str) -> dict[str, set[str]]:
    sections: dict[str, set[str]] = {kind: set() for kind in KINDS.values()}
    for name, kind in modules["torch._C"].kinds.items():
        if kind in KINDS:
            sections[KINDS[kind]].add(name)
    small = {name.lower() for name in re.findall(r"\bU?Int[1-7]\b", scalars)}
    sections["dtypes"] |= small
    modules["torch"].names |= small
    sections["storages"] = {
        f"{place}.{name}"
        for place in ("torch", "torch.storage")
        for name in modules[place].own
        if name.endswith("Storage")
    } | {f"torch.{name}" for name in modules["torch"].own if name.endswith("Storage")}
    if "_UntypedStorage" in modules["torch.storage"].own:
        sections["storages"].add("torch.storage._UntypedStorage")
    sections["safe"] = _safe(modules, sections)
    sections["classes"] = {
        f"{place}.{name}"
        for place, module in modules.items()
        if PLACES.fullmatch(place)
        for name in (*module.classes, *module.functions)
    }
    return sections


_GLOBAL = re.compile(r"(torch|collections|_codecs|builtins)(\.\w+)+")


def _safe(modules: dict[str, Module], sections: dict[str, set[str]]) -> set[str]:
    """What `_get_allowed_globals` names: in texts, and in the lists of functions and dtypes."""
    found: set[str] = set()
    unpickler = modules["torch._weights_only_unpickler"].functions
    for function in ("_get_allowed_globals", "_tensor_rebuild_functions"):
        if function not in unpickler:
            continue
        for node in ast.walk(unpickler[function]):
            texts: list[str] = []
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts = [node.value]
            elif isinstance(node, (ast.List, ast.Set)):
                texts = [ast.unparse(part) for part in node.elts]
            found |= {text for text in texts if _GLOBAL.fullmatch(text)}
        body = ast.unparse(unpickler[function])
        if "_storage_classes" in body:
            found |= sections["storages"]
        if "_dtype_to_storage_type_map" in body or "dtype" in body:
            found |= {f"torch.{name}" for name in sections["dtypes"]}
    for place, module in modules.items():
        for name in module.allowed:
            path = name if name.startswith("torch.") else module.imported.get(name, "")
            path = f"{place}.{name}" if name in module.own else path
            found.add(f"{place}.{name}")  # its `__module__` may be set to where it is allowed
            while (through := _defined_by(path, modules)) != path:
                path = through
            found.add(path)
    return {path for path in found if _is_public(path, modules)}


def _defined_by(path: str, modules: dict[str, Module]) -> str:
    """The path from which the module of `path` imports the name; `path` where it defines it."""
    place, _, name = path.rpartition(".")
    if place not in modules or name in modules[place].own:
        return path
    return modules[place].imported.get(name, path)


def _is_public(path: str, modules: dict[str, Module]) -> bool:
    place, _, name = path.rpartition(".")
    if not path.startswith("torch."):
        return bool(path)
    return (
        path not in modules
        and place in modules
        and not modules[place].names.isdisjoint((name, OPEN))
    )


def _calls(modules: dict[str, Module], safe: set[str]) -> dict[str, tuple[int, int | None]]:
    """Fewest and most positional arguments of the functions that weights_only allows."""
    found: dict[str, tuple[int, int | None]] = {}
    for path in safe:
        place, _, name = path.rpartition(".")
        function = modules[place].functions.get(name) if place in modules else None
        if function is not None:
            given = function.args
            count = len(given.posonlyargs) + len(given.args)
            most = None if given.vararg else count
            found[path] = (count - len(given.defaults), most)
    return found


def _enums(modules: dict[str, Module]) -> dict[str, list[int]]:
    """Values of the members of every enum in the modules of checkpoints."""
    found: dict[str, list[int]] = {}
    for place, module in modules.items():
        if not PLACES.fullmatch(place):
            continue
        for name, node in module.classes.items():
            if not any(ast.unparse(base).endswith("Enum") for base in node.bases):
                continue
            values: list[int] = []
            for line in node.body:
                if isinstance(line, ast.Assign):
                    text = ast.unparse(line.value)
                    if text.endswith("auto()"):
                        values.append(max(values, default=0) + 1)
                    elif text.lstrip("-").isdigit():
                        values.append(int(text))
            if values:
                found[f"{place}.{name}"] = values
    return found


def add_installed(release: Release) -> None:
    """Add to a release what its modules hold at run time in this Python."""
    import torch
    import torch.distributed.checkpoint

    for place, module in list(sys.modules.items()):
        if place == "torch" or place.startswith("torch."):
            known = release.modules.setdefault(place, Module(names={OPEN}))
            known.names |= {name for name in dir(module) if name.isidentifier()}
    release.source += f"; run time of {torch.__version__} on {sys.platform}"


def spans(having: list[str], releases: list[str]) -> list[str | None]:
    """The first release that has a name, and the last; None where that is the newest."""
    return [having[0], None if having[-1] == releases[-1] else having[-1]]


def names_table(found: dict[str, Release]) -> dict[str, Any]:
    """The small table; see the module."""
    releases = list(found)
    table: dict[str, Any] = {"releases": {name: found[name].source for name in releases}}
    for section in (*KINDS.values(), "storages", "safe", "classes"):
        every = sorted(set().union(*(found[name].sections[section] for name in releases)))
        table[section] = {
            name: spans([r for r in releases if name in found[r].sections[section]], releases)
            for name in every
        }
    table["calls"] = {}
    for path in sorted(set().union(*(found[name].calls for name in releases))):
        limits = [found[name].calls[path] for name in releases if path in found[name].calls]
        most = [high for _, high in limits]
        table["calls"][path] = [
            min(low for low, _ in limits),
            None if None in most else max(high for high in most if high is not None),
        ]
    table["enums"] = {}
    for name in releases:
        for path, values in found[name].enums.items():
            known = table["enums"].setdefault(path, [])
            known += [value for value in values if value not in known]
    return table


def modules_table(found: dict[str, Release]) -> dict[str, Any]:
    """The large table; see the module."""
    masks: dict[str, dict[str, int]] = {}
    for bit, release in enumerate(found.values()):
        for place, module in release.modules.items():
            names = masks.setdefault(place, {})
            if ".".join(place.split(".")[:2]) in UNREAD and place.count(".") > 1:
                continue
            for name in {
                "",
                *([OPEN] if OPEN in module.names else module.names),
            }:  # the empty name is the module itself
                names[name] = names.get(name, 0) | 1 << bit
    table: dict[str, dict[str, str]] = {}
    for place in sorted(masks):
        groups: dict[int, list[str]] = {}
        for name in sorted(masks[place]):
            groups.setdefault(masks[place][name], []).append(name)
        table[place] = {f"{mask:x}": ",".join(names) for mask, names in sorted(groups.items())}
    return {"releases": list(found), "modules": table}


def download(release: str, directory: Path) -> Path:
    """Fetch the wheel of one release from PyPI."""
    for platform in PLATFORMS:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--platform", platform, "--python-version", "3.10"]
        command += ["--dest", str(directory), f"torch=={release}"]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return wheel_in(directory, release)
    raise SystemExit(f"no wheel of torch {release} for {' or '.join(PLATFORMS)}")


def wheel_in(directory: Path, release: str) -> Path:
    """The wheel of one release in a directory."""
    found = sorted(directory.glob(f"torch-{release}-*.whl"))
    if not found:
        raise SystemExit(f"no wheel of torch {release} in {directory}")
    return found[0]


def main() -> None:
    """Parse the command line and write the two files."""
    parser = argparse.ArgumentParser(description="Make the tables of torch's names.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--download", action="store_true", help="fetch the wheels from PyPI")
    source.add_argument("--wheels", type=Path, help="directory of wheels")
    parser.add_argument("--installed", action="store_true", help="add this Python's torch")
    options = parser.parse_args()
    found: dict[str, Release] = {}
    for name in RELEASES:
        if options.download:
            with tempfile.TemporaryDirectory() as directory:
                found[name] = read_wheel(download(name, Path(directory)))
        else:
            found[name] = read_wheel(wheel_in(options.wheels, name))
        print(f"{name}: {len(found[name].modules):,} modules")
    if options.installed:
        from importlib.metadata import version

        add_installed(found[version("torch").split("+")[0]])
    NAMES.write_text(json.dumps(names_table(found), indent=1) + "\n")
    text = json.dumps(modules_table(found), separators=(",", ":"))
    # Without a time and a name the same tables are the same bytes.
    MODULES.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{NAMES}: {NAMES.stat().st_size:,} bytes")
    print(f"{MODULES}: {MODULES.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
