"""dcpctl and the scanners of pickles on hostile and on honest checkpoints.

`python -m tests.studies.scanners --python SCANNERS/bin/python`, where the environment SCANNERS has
`picklescan`, `modelscan` and `fickling` installed. Each is given every directory as it stands, and
once more with the pickles in it cut out into files of their own (`metadata.pkl`, `item_0.pt`),
which is the best that can be done for a scanner that does not know DCP.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcpctl.check.engine import run_checks
from dcpctl.check.options import CheckOptions
from dcpctl.errors import DcpctlError
from dcpctl.formats.metadata import parse_metadata
from tests.hostile.corpus import CASES

ROOT = Path(__file__).parents[2]
#: Read by the other interpreter: prints, for each directory of stdin, what each scanner says.
DRIVER = r"""
import contextlib, io, json, logging, os, sys, time, zipfile
from importlib.metadata import version
from fickling.analysis import Severity
from fickling.loader import scan_file, scan_zip_archive
from modelscan.modelscan import ModelScan
from picklescan.scanner import scan_directory_path

logging.disable(logging.CRITICAL)

def picklescan(path):
    found = scan_directory_path(path)
    return found.infected_files > 0, found.scanned_files

def modelscan(path):
    found = ModelScan().scan(path)
    return found["summary"]["total_issues"] > 0, found["summary"]["scanned"]["total_scanned"]

def fickling(path):
    # It takes files. What does not parse was not scanned; above "likely safe" is an alarm.
    bad, scanned = False, 0
    for where, _, names in os.walk(path):
        for name in names:
            file = os.path.join(where, name)
            if not os.path.isfile(file):
                continue
            try:
                if zipfile.is_zipfile(file):
                    results = list(scan_zip_archive(file).values())
                else:
                    results = [scan_file(file)]
            except Exception:
                continue
            results = [one for one in results if one.results]
            scanned += bool(results)
            bad |= any(one.severity > Severity.LIKELY_SAFE for one in results)
    return bad, scanned

tools = {f.__name__: f for f in (picklescan, modelscan, fickling)}
print(json.dumps({name: version(name) for name in tools}), flush=True)
for line in sys.stdin:
    said = {}
    for name, tool in tools.items():
        start = time.perf_counter()
        silent = io.StringIO()
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            try:
                found, scanned = tool(line.rstrip("\n"))
            except Exception:  # of a file that it cannot parse
                found, scanned = False, 0
        said[name] = (bool(found), scanned, time.perf_counter() - start)
    print(json.dumps(said), flush=True)
"""


def corpus(where: Path, shared: Path | None) -> Iterator[tuple[str, Path]]:
    """(kind, directory) of every checkpoint: `code` runs code when torch loads it, `benign`."""
    for case in CASES.values():
        if case.runs or case.opens == "unsafe-pickle":
            path = where / case.name / "checkpoint"
            path.parent.mkdir()
            case.make(path)
            yield "code", path
    if shared is not None:
        yield "code", shared / "attacks" / "frame-fork-hides-code" / "ckpt"
    honest = [ROOT / "sample_checkpoints" / "healthy", ROOT / "sample_checkpoints" / "zstd"]
    if shared is not None:
        honest += [shared / "checkpoints" / "2.13.0", shared / "frameworks"]
    for root in honest:
        for metadata in sorted(root.rglob(".metadata")):
            yield "benign", metadata.parent


def cut_out(directory: Path, into: Path) -> Path:
    """Copy the pickles of a checkpoint into files with names that scanners look at."""
    into.mkdir()
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        if file.name.endswith(".metadata"):
            shutil.copyfile(file, into / f"{file.name.strip('.')}.pkl")
            _items(directory, file, into)
        elif file.suffix != ".distcp":
            shutil.copyfile(file, into / file.name)
    return into


def _items(directory: Path, metadata: Path, into: Path) -> None:
    try:
        stored = parse_metadata(metadata.read_bytes())
    except DcpctlError:
        return
    for number, entry in enumerate(stored.entries.values()):
        if not hasattr(entry, "chunks") and entry.file >= 0:
            with (directory / stored.files[entry.file]).open("rb") as held:
                held.seek(entry.offset)
                (into / f"{metadata.name.strip('.')}_{number}.pt").write_bytes(
                    held.read(entry.length)
                )


def dcpctl_says(path: Path) -> tuple[bool, int, float]:
    """Whether `check --security` fails it, files read, seconds."""
    start = time.perf_counter()
    try:
        found = run_checks(path, CheckOptions(security=True, torch="2.13")).errors > 0
    except DcpctlError:
        found = True
    files = sum(file.is_file() for file in path.rglob("*"))
    return found, files, time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter that has the scanners")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    options = parser.parse_args()
    shared = options.shared if options.shared.is_dir() else None
    scanner = subprocess.Popen(
        [options.python, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert scanner.stdin is not None
    assert scanner.stdout is not None
    versions: dict[str, str] = json.loads(scanner.stdout.readline())
    rows: dict[str, dict[str, list[Any]]] = {}

    def take(tool: str, kind: str, said: tuple[bool, int, float]) -> None:
        rows.setdefault(tool, {}).setdefault(kind, []).append(said)

    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "cases").mkdir()
        for number, (kind, path) in enumerate(corpus(Path(made) / "cases", shared)):
            take("dcpctl check --security", kind, dcpctl_says(path))
            cut = cut_out(path, Path(made) / f"cut_{number}")
            for directory, how in ((path, ""), (cut, ", pickles cut out")):
                scanner.stdin.write(f"{directory}\n")
                scanner.stdin.flush()
                for tool, said in json.loads(scanner.stdout.readline()).items():
                    take(f"{tool} {versions[tool]}{how}", kind, said)
    scanner.stdin.close()
    scanner.wait()
    print(_table(rows))


def _table(rows: dict[str, dict[str, list[Any]]]) -> str:
    lines = [
        "| tool | attacks found | missed | files scanned | false alarms | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for tool in sorted(rows, key=lambda name: ("dcpctl" not in name, re.sub("^.*, ", "~", name))):
        code, benign = rows[tool]["code"], rows[tool]["benign"]
        found = sum(said[0] for said in code)
        alarms = sum(said[0] for said in benign)
        scanned = sum(said[1] for said in (*code, *benign))
        seconds = sum(said[2] for said in (*code, *benign))
        lines.append(
            f"| {tool} | {found} of {len(code)} | {len(code) - found} | {scanned:,} | "
            f"{alarms} of {len(benign)} | {seconds:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
