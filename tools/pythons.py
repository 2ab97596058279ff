"""Find the Pythons of this machine and make virtual environments with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: The minor versions of Python 3 that dcpctl supports.
SUPPORTED = range(10, 15)


def supported_pythons() -> dict[int, Path]:
    """Return the interpreter of each supported minor version that is here and runs.

    Looks at the running one, at `python3.X` on PATH and at the versions that pyenv keeps.
    """
    found: dict[int, Path] = {}
    for candidate in _candidates():
        minor = _minor(candidate)
        if minor is not None and minor in SUPPORTED:
            found.setdefault(minor, candidate)
    return dict(sorted(found.items()))


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for minor in SUPPORTED:
        on_path = shutil.which(f"python3.{minor}")
        if on_path:
            yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/3.*/bin/python"))


def _minor(python: Path) -> int | None:
    """Return the minor version of a CPython 3, or None for what does not run.

    A shim on PATH may exist and still refuse, and a version may be broken or without `venv`.
    """
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError:
        return None
    match = re.fullmatch(r"3\.(\d+)\n", done.stdout)
    return int(match[1]) if match and done.returncode == 0 else None


def torch_free_environment(python: Path, where: Path, package: Path) -> Path:
    """Make a virtual environment that has dcpctl and no torch: a plain install brings none.

    Args:
        python: interpreter to make it with.
        where: directory for it, which must not exist yet.
        package: what to install: the working tree, or a wheel of it.

    Returns:
        The environment's own interpreter.

    Raises:
        subprocess.CalledProcessError: an installation failed; pip has printed why.
    """
    subprocess.run([python, "-m", "venv", where], check=True)
    inside = where / "bin" / "python"
    install(inside, package)
    return inside


def install(python: Path, *arguments: str | Path) -> None:
    """Run `pip install` with the given interpreter.

    Raises:
        subprocess.CalledProcessError: it failed; pip has printed why.
    """
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run((*pip, *arguments), check=True)


def wheel(python: Path, repository: Path, where: Path) -> Path:
    """Build the wheel of a working tree and return its path, in the directory `where`.

    Raises:
        subprocess.CalledProcessError: it failed; pip has printed why.
    """
    pip = (python, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps")
    subprocess.run((*pip, "--wheel-dir", where, repository), check=True)
    (built,) = where.glob("dcpctl-*.whl")
    return built


def framework_environment(python: Path, where: Path, repository: Path, *packages: str) -> Path:
    """Make a virtual environment that has dcpctl beside a training framework.

    Args:
        python: interpreter to make it with.
        where: directory for it, which must not exist yet.
        repository: the working tree to install.
        packages: what else is needed, each step's own: torch first, so that a framework takes that
            one and no other.

    Returns:
        The environment's own interpreter.

    Raises:
        subprocess.CalledProcessError: an installation failed; pip has printed why.
    """
    subprocess.run([python, "-m", "venv", where], check=True)
    inside = where / "bin" / "python"
    for package in packages:
        install(inside, package)
    install(inside, f"{repository}[test]")
    return inside
