"""Every single bit of small checkpoints flipped: what `check` says, and what torch then loads.

`python -m tests.fuzz --flips [--shared DIR]` takes the smallest checkpoint of each release. Of
`.metadata` each flip is checked with every byte read, and where nothing is found stock `dcp.load`
loads the checkpoint into a state dict of what was saved. Of items the smallest of each kind is
taken: dcpctl either refuses it or has to read what torch reads.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from dcpctl.check.engine import run_checks
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.options import CheckOptions
from dcpctl.errors import DcpctlError
from dcpctl.formats.metadata import parse_metadata
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.opening import open_checkpoint
from tests.fuzz import oracle
from tests.fuzz.differential import flips, judge_tensor, judge_value

REFUSED, FOUND = "refused by the reader", "found by check"
SAME, OTHER, FAILS = "silent, torch loads the same", "silent, other values", "silent, torch fails"
OUTCOMES = (REFUSED, FOUND, SAME, OTHER, FAILS)
#: What of the description a silent flip has changed.
NOTHING, KEYS, PLANNER, REST = "nothing that is read", "a key", "an object path", "something else"


def smallest(root: Path) -> list[Path]:
    """The checkpoint with the smallest `.metadata` below each directory of `root`."""
    found = []
    for release in sorted(path for path in root.iterdir() if path.is_dir()):
        every = sorted(release.rglob(".metadata"), key=lambda path: (path.stat().st_size, path))
        found += [path.parent for path in every[:1]]
    return found


def of_metadata(path: Path, step: int = 1) -> tuple[Counter[str], Counter[str]]:
    """Flip every `step`th bit of a `.metadata`.

    Returns:
        How many flips came to each outcome, and of the silent ones what they changed.
    """
    outcomes: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    original = (path / ".metadata").read_bytes()
    with tempfile.TemporaryDirectory(prefix="flips-") as temporary:
        copy = Path(temporary) / path.name
        shutil.copytree(path, copy)
        expected = _loaded(copy)
        known = _findings(copy)
        before = oracle.described(parse_metadata(original))
        for data in flips(original, step):
            try:
                after = oracle.described(parse_metadata(data))
            except DcpctlError:
                outcomes[REFUSED] += 1
                continue
            (copy / ".metadata").write_bytes(data)
            if _findings(copy) - known:
                outcomes[FOUND] += 1
                continue
            outcome = _torch_says(copy, expected)
            outcomes[outcome] += 1
            changed[f"{_what(before, after)}: {outcome.removeprefix('silent, ')}"] += 1
    return outcomes, changed


def of_items(path: Path, step: int = 1) -> Counter[str]:
    """Flip every `step`th bit of the smallest tensor item and of the smallest bytes entry."""
    outcomes: Counter[str] = Counter()
    with open_checkpoint(path) as checkpoint:
        storage = checkpoint.parts[0].storage
        for kind, judge in ((TensorEntry, judge_tensor), (BytesEntry, judge_value)):
            items = [
                (one.length, checkpoint.files[one.file].name, one.offset)
                for entry in checkpoint.values()
                if isinstance(entry, kind)
                for one in ([entry] if isinstance(entry, BytesEntry) else entry.chunks)
            ]
            if not items:
                continue
            length, name, offset = min(items)
            for data in flips(storage.read(name, offset, length), step):
                # What is passed has been read by torch too, to the same value of the flipped bits.
                outcomes[OTHER if judge(data) else REFUSED] += 1
    return outcomes


def _findings(path: Path) -> set[tuple[str, str]]:
    """Rules and messages that a gate fails on; what cannot be opened is one of its own."""
    try:
        result = run_checks(path, CheckOptions(verify_data=True, jobs=1, torch=torch.__version__))
    except DcpctlError as error:
        return {("cannot be checked", error.message)}
    return {(f.rule, f.message) for f in result.findings if f.severity in (ERROR, WARNING)}


def _template(path: Path) -> dict[str, Any]:
    """A state dict of what a checkpoint holds, with other numbers."""
    with open_checkpoint(path) as checkpoint:
        return {
            fqn: torch.full(entry.shape, 7, dtype=getattr(torch, entry.dtype))
            if isinstance(entry, TensorEntry)
            else None
            for fqn, entry in checkpoint.items()
        }


def _loaded(path: Path, template: dict[str, Any] | None = None) -> dict[str, Any]:
    state = _template(path) if template is None else template
    dcp.load(state, checkpoint_id=path, no_dist=True)
    return state


def _torch_says(path: Path, expected: dict[str, Any]) -> str:
    """What comes of loading a checkpoint into a state dict of what was saved."""
    template = {
        fqn: torch.full_like(value, 7) if isinstance(value, torch.Tensor) else None
        for fqn, value in expected.items()
    }
    try:
        state = _loaded(path, template)
    except (Exception, CheckpointException):  # DCP's own is no Exception
        return FAILS
    same = all(
        torch.equal(state[fqn], value) if isinstance(value, torch.Tensor) else state[fqn] == value
        for fqn, value in expected.items()
    )
    return SAME if same else OTHER


def _what(before: dict[str, Any], after: dict[str, Any]) -> str:
    if list(before["entries"]) != list(after["entries"]):
        return KEYS
    if before["entries"] != after["entries"]:
        return REST
    return PLANNER if before["planner"] != after["planner"] else NOTHING


def run(shared: Path | None) -> int:
    """Print the table; 1 if an item's flip is silent, or a silent one changes a value."""
    warnings.simplefilter("ignore")
    samples = Path(__file__).resolve().parents[2] / "sample_checkpoints" / "healthy"
    paths = smallest(shared / "checkpoints") if shared is not None else smallest(samples)[:1]
    total: dict[str, Counter[str]] = {".metadata": Counter(), "items": Counter()}
    silent: Counter[str] = Counter()
    for path in paths:
        outcomes, changed = of_metadata(path)
        items = of_items(path)
        print(path, *_lines(outcomes, items), sep="\n", flush=True)
        total[".metadata"] += outcomes
        total["items"] += items
        silent += changed
    print("all", *_lines(total[".metadata"], total["items"]), sep="\n")
    for what, count in silent.most_common():
        print(f"  {count:7,}  {what}")
    bad = total[".metadata"][OTHER] + sum(total["items"][one] for one in (SAME, OTHER, FAILS))
    return 1 if bad else 0


def _lines(metadata: Counter[str], items: Counter[str]) -> list[str]:
    lines = []
    for what, counts in ((".metadata", metadata), ("items", items)):
        said = ", ".join(f"{counts[one]:,} {one}" for one in OUTCOMES if counts[one])
        lines.append(f"  {what}: {counts.total():,} flips: {said}")
    return lines
