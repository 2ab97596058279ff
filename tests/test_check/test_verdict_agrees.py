"""The verdict of `inspect` and the rules of `check` never contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.engine import run_checks
from dcpctl.check.options import CheckOptions
from dcpctl.errors import DcpctlError
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.verdict import ABSENT, COMPLETE
from dcpctl.model.optimizer.view import OptimizerView

#: Rules on what is there; DCP506 and DCP514 compare steps with the job's, which the sentence says.
STATE = ("DCP501", "DCP502", "DCP503", "DCP504", "DCP511", "DCP515", "DCP516", "DCP521", "DCP201")


def places(root: Path) -> list[Path]:
    found = {path.parent for path in root.rglob("*metadata") if path.is_file()}
    return sorted(found)


def contradictions(root: Path) -> dict[str, tuple[str, set[str]]]:
    found = {}
    for path in places(root):
        try:
            result = run_checks(path, CheckOptions(select=STATE, torch="2.13"))
            with open_checkpoint(path) as checkpoint:
                view = OptimizerView(checkpoint)
                verdict, resumed = view.verdict, view.sentence.startswith("Training can be resumed")
        except DcpctlError:
            continue
        errors = {f.rule for f in result.findings if f.severity == "error"}
        said = {f.rule for f in result.findings}
        clean = verdict == COMPLETE
        if clean == bool(errors) and verdict != ABSENT and not (not clean and said):
            found[str(path)] = (verdict, errors)
        if resumed and errors:
            found[str(path)] = (verdict, errors)
    return found


def test_samples(samples: Path) -> None:
    assert contradictions(samples) == {}


@pytest.mark.parametrize(
    "name", ["node-shards-missing", "flashoptim-fsdp2", "pp-virtual-stages", "lazy-opt-template"]
)
def test_reports(shared: Path, name: str) -> None:
    assert contradictions(shared / "reports" / name) == {}


@pytest.mark.soak
def test_all_that_is_shared(shared: Path) -> None:
    assert contradictions(shared) == {}
