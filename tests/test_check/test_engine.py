from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcpctl.check import registry
from dcpctl.check.engine import run_checks
from dcpctl.check.finding import CheckResult, Finding, Skipped
from dcpctl.check.options import CheckOptions
from dcpctl.check.registry import CannotRun, Hit, Rule
from dcpctl.check.run import Run
from dcpctl.errors import InterruptedSave, NothingSelected, TruncatedFile, UnsafePickle
from tests.hostile.draft import healthy


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    healthy().write(tmp_path / "ckpt")
    return tmp_path / "ckpt"


def three(run: Run) -> Iterator[Hit]:
    yield Hit("a", "one", severity="info")
    yield Hit("b", "two", "file", 7)
    yield Hit("c", "three", severity="error")


def broken(run: Run) -> Iterator[Hit]:
    yield Hit("d", "four")
    raise CannotRun("the rest is hidden")


def blind(run: Run) -> Iterator[Hit]:
    raise TruncatedFile("a file is too short")
    yield


@pytest.fixture
def made_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "DCP901": Rule("DCP901", "warning", "", three),
        "DCP902": Rule("DCP902", "error", "", broken),
        "DCP903": Rule("DCP903", "error", "", blind),
    }
    registry.all_rules()  # so that the real ones are not loaded into these
    monkeypatch.setattr(registry, "_rules", made)


@pytest.mark.usefixtures("made_rules")
def test_findings_skips_and_counts(checkpoint: Path) -> None:
    result = run_checks(checkpoint)
    assert result.findings == (
        Finding("DCP901", "error", "c", "three"),
        Finding("DCP901", "warning", "b", "two", "file", 7),
        Finding("DCP901", "info", "a", "one"),
        Finding("DCP902", "error", "d", "four"),
    )
    assert result.skipped == (
        Skipped("DCP902", "the rest is hidden"),
        Skipped("DCP903", "a file is too short"),
    )
    assert result.rules_run == ("DCP901", "DCP902")
    assert (result.errors, result.warnings, result.infos, result.left_off) == (2, 1, 1, 0)


@pytest.mark.usefixtures("made_rules")
def test_the_gravest_are_listed_and_all_are_counted(checkpoint: Path) -> None:
    result = run_checks(checkpoint, CheckOptions(max_findings=3))
    assert [(f.rule, f.severity) for f in result.findings] == [
        ("DCP901", "error"),
        ("DCP901", "warning"),
        ("DCP902", "error"),
    ]
    two = run_checks(checkpoint, CheckOptions(max_findings=2))
    assert [found.rule for found in two.findings] == ["DCP901", "DCP902"]
    assert (result.errors, result.left_off) == (2, 1)
    none = run_checks(checkpoint, CheckOptions(max_findings=0))
    assert none.findings == ()
    assert none.failed()


def result_of(*severities: str) -> CheckResult:
    found = tuple(Finding("DCP101", severity, "", "") for severity in severities)
    result = CheckResult(Path(), "dcp", None, found)
    result.counts.update(severities)
    return result


@pytest.mark.parametrize(
    ("severities", "fails", "fails_strictly"),
    [
        ((), False, False),
        (("info",), False, False),
        (("warning",), False, True),
        (("error",), True, True),
        (("info", "warning", "error"), True, True),
    ],
)
def test_what_fails(severities: tuple[str, ...], fails: bool, fails_strictly: bool) -> None:
    assert result_of(*severities).failed() is fails
    assert result_of(*severities).failed(strict=True) is fails_strictly


def test_healthy_samples_pass(samples: Path) -> None:
    for name in ("healthy/step-8500", "fsdp_tp_2x2", "silent_reset/step-9000"):
        result = run_checks(samples / name, CheckOptions(torch="2.13"))
        assert not result.failed(strict=True), result.findings
        assert result.items == result.items_verified > 0
        assert {item.rule for item in result.skipped} <= {"DCP307", "DCP506"}


@pytest.mark.parametrize(
    ("name", "error"), [("hostile", UnsafePickle), ("interrupted", InterruptedSave)]
)
def test_what_has_no_readable_metadata_cannot_be_checked(
    samples: Path, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run_checks(samples / name)


def test_wrong_names_of_rules_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(NothingSelected):
        run_checks(tmp_path / "nothing here", CheckOptions(select=("DCP9",)))


def test_nothing_is_written_and_no_file_stays_open(checkpoint: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [checkpoint, *checkpoint.iterdir()]}
    run_checks(checkpoint, CheckOptions(verify_data=True, values=True, jobs=3))
    assert {path: path.stat().st_mtime_ns for path in [checkpoint, *checkpoint.iterdir()]} == before
    opened = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not [path for path in opened if checkpoint in path.parents]


def test_checking_imports_no_torch(samples: Path) -> None:
    code = (
        "import sys; from dcpctl.check.engine import run_checks; "
        "from dcpctl.check.options import CheckOptions; "
        "run_checks(sys.argv[1], CheckOptions(verify_data=True, values=True)); "
        "assert 'torch' not in sys.modules"
    )
    path = str(samples / "healthy" / "step-8500")
    subprocess.run([sys.executable, "-c", code, path], check=True)
