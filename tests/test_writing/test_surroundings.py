"""What lies around a write: a clock that goes backwards, and a source that cannot be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app
from dcpctl.writing.staging import leftovers
from tests.test_writing.building import assert_same, hashes
from tests.test_writing.test_faults import at, interrupt
from tests.test_writing.test_places import attempt, step

ROOT = Path(__file__).resolve().parents[2]
#: Some user who is not root and owns nothing.
NOBODY = 54321


@pytest.mark.parametrize("when", [0, 4_000_000_000])
def test_times_decide_nothing(when, tmp_path, monkeypatch):
    """Neither those of files, which lie in the past or the future, nor a clock that runs back."""
    now = [time.time()]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    source, out = step(tmp_path / "s", 1), tmp_path / "out"

    def age() -> None:
        for path in [*tmp_path.rglob("*")]:
            os.utime(path, (when, when))

    age()
    with at("prove", interrupt), pytest.raises(KeyboardInterrupt):
        attempt(source, out)
    (left,) = leftovers(out)
    for path in [left, *left.rglob("*")]:
        os.utime(path, (when, when))
    assert "2 files are finished" in attempt(source, out, resume=True)[0]
    assert_same(source, out)
    age()
    attempt(source, out, overwrite=True)
    assert_same(source, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s"]


#: Another user may be unable to read Python's own files, so all is imported by a first run.
CHILD = """
import importlib.metadata, os, sys
from typer.testing import CliRunner
from dcpctl.cli.app import app
user, warm, *command = sys.argv[1:]
def words(free, edited):
    return [word.replace("FREE", warm + free).replace("EDITED", warm + edited) for word in command]
CliRunner().invoke(app, words("", "/copy"))
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(*[int(user)] * 3); os.setresuid(*[int(user)] * 3)
done = CliRunner().invoke(app, words("/free", "/source"))
print(done.stderr, end="", file=sys.stderr)
sys.exit(done.exit_code)
"""


def as_nobody(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user who may read the source and write nothing but in `place / "free"`."""
    return subprocess.run(
        [sys.executable, "-B", "-c", CHILD, str(NOBODY), str(place), *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def read_only(samples: Path):
    """A save in which nothing can be written; a directory in which anyone can lies beside it."""
    # No tmp_path: pytest closes what is above it to other users.
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "source")
        shutil.copytree(samples / "healthy/step-8500", source)
        for path in source.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        source.chmod(0o555)
        source.with_name("free").mkdir()
        source.with_name("free").chmod(0o777)
        source.parent.chmod(0o755)
        yield source
        source.chmod(0o755)


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "SRC"],
        ["check", "SRC"],
        ["diff", "SRC", "SRC", "--values"],
        ["reshard", "SRC", "FREE/out", "--world-size", "2"],
        ["reshard", "SRC", "FREE/out", "--world-size", "2", "--dry-run"],
    ],
)
def test_a_source_that_is_read_only(command, read_only):
    before = hashes(read_only)
    done = as_nobody(read_only.parent, *(word.replace("SRC", str(read_only)) for word in command))
    assert (done.returncode, "error[" in done.stderr) == (0, False), done.stderr
    assert hashes(read_only) == before


EDITS = {
    "set": ["step=9000", "--in-place"],
    "rename": ["tok_embeddings=embed", "--in-place"],
    "drop": ["lr_scheduler.*", "--in-place"],
    "select": ["model.*", "--in-place"],
    "upgrade": ["--torch", "2.13", "--optimizer", "adamw", "--in-place"],
    "edit": ["--set", "step=0", "--in-place"],
    "undo": [],
}


@pytest.mark.parametrize("verb", EDITS)
def test_an_edit_in_place_of_what_is_read_only(verb, read_only, samples):
    """One error that says what could not be written, and nothing is changed or left behind."""
    read_only.chmod(0o755)
    if verb == "upgrade":  # of what needs it
        shutil.rmtree(read_only)
        shutil.copytree(samples / "legacy", read_only)
    if verb == "undo":
        done = CliRunner().invoke(app, ["set", str(read_only), *EDITS["set"]])
        assert done.exit_code == 0, done.stderr
    shutil.copytree(read_only, read_only.with_name("copy"))  # for the first run, another user's
    read_only.with_name("copy").chmod(0o755)
    read_only.chmod(0o555)
    before = hashes(read_only)
    done = as_nobody(read_only.parent, verb, "EDITED", *EDITS[verb])
    said = f"error[io-failed]: cannot write to '{read_only}': Permission denied\n"
    assert (done.returncode, done.stderr, done.stdout) == (5, said, "")
    assert hashes(read_only) == before
    assert hashes(read_only.with_name("copy")) != before  # the very command, by one who may
