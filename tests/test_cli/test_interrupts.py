"""Ctrl-C and SIGTERM at every moment: the exit code of a shell, no traceback, nothing half."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcpctl.writing.staging import leftovers
from tests.test_writing.building import hashes

ROOT = Path(__file__).resolve().parents[2]
#: As the console script and `python -m dcpctl` begin; a byte says that Python itself has started.
ENTRIES = {
    "script": "import os, sys; os.write(2, b'.'); from dcpctl.cli.main import main; main()",
    "module": "import os, runpy; os.write(2, b'.'); runpy._run_module_as_main('dcpctl')",
}
#: Where an interrupt still is Python's: on the way to the first line of `main`.
BEFORE = (
    "in <module>",
    "in _run_module_as_main",
    "in _run_code",
    "in _get_module_details",
    "importlib",
)


def start(entry: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    done = subprocess.Popen(
        [sys.executable, "-c", ENTRIES[entry], *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert done.stderr is not None
    assert done.stderr.read(1) == b"."
    return done


def check(entry: str, arguments: list[str], number: int, share: float, whole: float) -> int:
    """Send a signal after a share of the time that a command takes; return its exit code."""
    process = start(entry, arguments)
    time.sleep(whole * share)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    text = said.decode()
    if "Traceback" in text:  # of the import of dcpctl.cli.main, by whoever started Python
        frames = [line for line in text.splitlines() if line.startswith("  File")]
        assert all(any(word in frame for word in BEFORE) for frame in frames), text
        assert " in main" not in text, text
        return -number
    assert "error[" not in text, text
    assert "Exception ignored" not in text, text
    assert process.returncode in (0, 128 + number, -number), (share, text)
    return process.returncode


def timed(entry: str, arguments: list[str]) -> float:
    begin = time.monotonic()
    assert start(entry, arguments).communicate(timeout=60) is not None
    return time.monotonic() - begin


def verbs(samples: Path, out: Path) -> dict[str, list[str]]:
    source = str(samples / "healthy/step-8500")
    return {
        "version": ["--version"],
        "inspect": ["inspect", source],
        "check": ["check", source, "--jobs", "2"],
        "diff": ["diff", source, source, "--values"],
        "reshard": ["reshard", source, str(out), "--world-size", "3", "--jobs", "2"],
    }


def swept(samples: Path, place: Path, verb: str, entry: str, number: int, times: int) -> None:
    out = place / "out"
    arguments = verbs(samples, out)[verb]
    whole = timed(entry, arguments)
    expected = hashes(out) if out.exists() else {}
    shutil.rmtree(out, ignore_errors=True)
    before = hashes(samples / "healthy/step-8500")
    codes = set()
    for step in range(times):
        codes.add(check(entry, arguments, number, step / max(1, times - 2), whole))
        if out.exists():
            assert hashes(out) == expected
            shutil.rmtree(out)
        for left in leftovers(out):
            shutil.rmtree(left)
        assert list(place.iterdir()) == []
    # How many were in time depends on the machine; see below for moments that do not.
    assert codes <= {0, 128 + number, -number}
    assert hashes(samples / "healthy/step-8500") == before


@pytest.mark.parametrize(
    ("verb", "entry", "number"),
    [
        ("version", "script", signal.SIGINT),
        ("reshard", "module", signal.SIGINT),
        ("reshard", "script", signal.SIGTERM),
    ],
)
def test_at_some_moments(samples: Path, tmp_path: Path, verb: str, entry: str, number: int):
    swept(samples, tmp_path, verb, entry, number, 4)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["version", "inspect", "check", "diff", "reshard"])
@pytest.mark.parametrize("entry", list(ENTRIES))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_many_moments(samples: Path, tmp_path: Path, verb: str, entry: str, number: int):
    swept(samples, tmp_path, verb, entry, number, 20)


def test_an_ignored_signal_stays_ignored(samples: Path):
    """As below nohup, or in the background of a script: at the start, and in the middle."""
    code = (
        "import os, signal; from dcpctl.cli import main, interrupts\n"
        "def stop(): os.kill(os.getpid(), signal.SIGINT)\n"
        "begin = interrupts.begin\n"
        "def begins(): stop(); begin(); stop()\n"
        "interrupts.begin = begins\n"
        "stop(); main.main()"
    )
    shell = ("bash", "-c", 'trap "" INT; exec "$@"', "bash", sys.executable, "-c", code)
    done = subprocess.run(
        [*shell, "inspect", str(samples / "healthy/step-8500")],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


#: Runs in a process of its own: signals, and what stands in the way of them.
MOMENTS = """
import os, signal, sys
from dcpctl.cli import interrupts, shell
interrupts.watch()
def stop(number=signal.SIGINT): os.kill(os.getpid(), number)
class Dies:
    def __del__(self): stop()
def swallowed():
    try: stop()
    except BaseException: return 0
def turned():
    try: stop()
    except KeyboardInterrupt: raise ImportError("cannot import")
def in_del():
    one = Dies(); del one
    for _ in range(1000): pass
    raise SystemExit("not interrupted")
def child():
    pid = os.fork()
    if not pid: stop()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) + 1
def twice():
    try: stop()
    finally: stop(); print("still here", flush=True)
def after():
    return 7
code = shell._exit_code(globals()[sys.argv[1]])
if sys.argv[1] == "after": stop()
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        ("stop", 130),
        ("swallowed", 130),
        ("turned", 130),
        ("in_del", 130),
        ("child", 131),
        ("twice", 130),
        ("after", 7),
    ],
)
def test_what_stands_in_the_way_of_an_interrupt(moment: str, code: int):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MOMENTS, moment],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize(
    ("redirection", "arguments", "code"),
    [
        (">&-", "inspect SAVE", 0),
        ("2>&-", "inspect nowhere", 3),
        (">&- 2>&- <&-", "reshard SAVE OUT --world-size 2", 0),
        (">/dev/full", "inspect SAVE", 5),
        (">/dev/full", "--version", 5),
        ("2>/dev/full", "inspect nowhere", 3),
        ("2>&1 | true", "inspect nowhere", 3),
    ],
)
def test_streams_that_are_closed_or_full(samples, tmp_path, redirection, arguments, code):
    """No file is opened in the place of one, and what cannot be written ends the command."""
    if "/dev/full" in redirection and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    save = samples / "healthy/step-8500"
    said = arguments.replace("SAVE", str(save)).replace("OUT", str(tmp_path / "out"))
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'{sys.executable} -m dcpctl {said} {redirection}; exit "${{PIPESTATUS[0]}}"',
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if code == 5:
        assert (
            done.stderr == "error[io-failed]: writing the output failed: No space left on device\n"
        )
    if "OUT" in arguments:
        again = tmp_path / "again"
        command = [sys.executable, "-m", "dcpctl", "reshard", str(save), str(again)]
        subprocess.run([*command, "--world-size", "2"], cwd=ROOT, check=True, capture_output=True)
        assert hashes(tmp_path / "out") == hashes(again)
