"""Every gate of the project: `python -m tools.gate`.

Runs all steps even after one has failed, says at the end which did, and exits 1 if any did.
`--quick` takes those of a minute or two, `--only NAME ...` some of them; `--list` prints the names.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tomli

from tools import pythons

REPOSITORY = Path(__file__).resolve().parent.parent
#: The releases that wrote `../shared/frameworks`, and those whose loggers `signature` reads: test
#: module -> what pip installs for it.
FRAMEWORKS = {
    "accelerate": "accelerate==1.15.0",
    "lightning": "lightning==2.6.6",
    "loggers": "transformers==5.24.0 accelerate==1.15.0 lightning==2.6.6 ai2-olmo-core==3.0.0",
    "megatron_core": "megatron-core==0.16.1",
    "olmo_core": "ai2-olmo-core==3.0.0",
    "safetensors": "safetensors==0.8.0",
    "torchtitan": "torchtitan==0.3.0",
}
#: Tests that run in a minute, and the filter that leaves out the larger inputs among them.
UNIT = (
    *("-k", "not hostile and not real and not shared_checkpoints and not samples"),
    *(f"tests/test_{name}" for name in ("storage", "formats", "model", "documents")),
    *(f"tests/test_{name}" for name in ("inspect", "reports")),
    *(f"tests/test_{name}.py" for name in ("api", "parallel", "progress")),
    *(f"tests/test_house/test_{name}.py" for name in ("errors", "floors", "packaging", "tools")),
)
FRAMEWORK_TORCH = "torch==2.13.0"


def run(*command: str | Path) -> bool:
    """Run a command in the repository, printed first; return whether it succeeded."""
    print("$", *command, flush=True)
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0


def python(*arguments: str) -> bool:
    """Run this interpreter."""
    return run(sys.executable, *arguments)


def format_() -> bool:
    """Code is formatted."""
    return python("-m", "ruff", "format", "--check", ".")


def lint() -> bool:
    """Lint rules hold."""
    return python("-m", "ruff", "check", ".")


def types() -> bool:
    """Strict types hold."""
    return python("-m", "mypy", "--strict", "dcpctl", "tools")


def tests() -> bool:
    """All tests pass, warnings being errors; the soak is a step of its own."""
    return _pytest("not soak and not frameworks")


def unit() -> bool:
    """The tests of what needs no process, no torch and no real checkpoint; part of `tests`."""
    return _pytest("not slow and not soak and not frameworks and not torch", *UNIT)


def soak() -> bool:
    """Every verb works on every real checkpoint of `../shared`; not part of a plain run."""
    return _pytest("soak")


def frameworks() -> bool:
    """Each framework's loader takes what surgery makes, and its logs are read; no plain run."""
    results = [_framework(name, package) for name, package in FRAMEWORKS.items()]
    return all(results)


def _framework(name: str, package: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="dcpctl-gate-") as temporary:
        where = Path(temporary) / "venv"
        try:
            inside = pythons.framework_environment(
                Path(sys.executable), where, REPOSITORY, FRAMEWORK_TORCH, *package.split()
            )
        except subprocess.CalledProcessError as error:
            print("failed:", error)
            return False
        test = f"tests/test_frameworks/test_{name}.py"
        return run(inside, "-m", "pytest", "-q", "-m", "frameworks", "-p", "no:cacheprovider", test)


def _pytest(marked: str, *paths: str) -> bool:
    return python(
        *("-m", "pytest", "-q", "-n", str(os.cpu_count() or 1), "--dist", "worksteal"),
        *("-m", marked, "--durations=15", *paths),
    )


def docs() -> bool:
    """Every command has its page, every example in README and docs/ prints what it shows."""
    return python("-m", "tools.docs")


def torch_free() -> bool:
    """The tests pass without torch under the oldest and the newest Python of this machine."""
    here = pythons.supported_pythons()
    absent = [f"3.{minor}" for minor in pythons.SUPPORTED if minor not in here]
    if absent:
        print("not on this machine, skipped: Python", ", ".join(absent))
    passed = [_torch_free(here[min(here)])]
    if len(here) > 1:  # what a newer Python changes is pickles, parsing and printing
        floors = ("storage", "formats", "model", "inspect", "reports", "cli")
        passed.append(_torch_free(here[max(here)], *(f"tests/test_{name}" for name in floors)))
    return all(passed)


def _torch_free(interpreter: Path, *paths: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="dcpctl-gate-") as temporary:
        try:
            inside = pythons.torch_free_environment(
                interpreter, Path(temporary) / "venv", REPOSITORY
            )
            pythons.install(inside, *_test_requirements())
        except subprocess.CalledProcessError as error:
            print("failed:", error)
            return False
        return run(
            *(inside, "-m", "pytest", "-q", "-n", str(os.cpu_count() or 1)),
            *("-m", "not torch and not slow", "-p", "no:cacheprovider"),
            # Hostile inputs and real checkpoints take minutes, and were read by the step `tests`.
            *("-k", "not hostile and not real and not shared_checkpoints", *paths),
        )


def _test_requirements() -> list[str]:
    """What the tests need beside dcpctl and torch."""
    project = tomli.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    requirements: list[str] = project["optional-dependencies"]["test"]
    return [one for one in requirements if one != "dcpctl[torch]"]


STEPS: dict[str, Callable[[], bool]] = {
    "format": format_,
    "lint": lint,
    "types": types,
    "unit": unit,
    "tests": tests,
    "docs": docs,
    "torch-free": torch_free,
    "soak": soak,
    "frameworks": frameworks,
}
QUICK = ["format", "lint", "types", "unit"]
PLAIN = [name for name in STEPS if name not in ("unit", "soak", "frameworks")]


def main() -> int:
    """Run the steps asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.gate", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=PLAIN, metavar="NAME")
    parser.add_argument(
        *("--quick", "-q"), dest="only", action="store_const", const=QUICK,
        help="under two minutes: format, lint, types, unit tests",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the steps and stop")
    arguments = parser.parse_args()
    if arguments.list:
        for name, step in STEPS.items():
            print(f"{name:12} {step.__doc__}")
        return 0
    results: dict[str, bool] = {}
    for name in arguments.only:
        print(f"\n== {name}: {STEPS[name].__doc__}", flush=True)
        begin = time.monotonic()
        results[name] = STEPS[name]()
        verdict = "passed" if results[name] else "FAILED"
        print(f"== {name}: {verdict} in {time.monotonic() - begin:.0f} s", flush=True)
    failed = [name for name, passed in results.items() if not passed]
    print("\ngate:", "failed: " + ", ".join(failed) if failed else "all steps passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
