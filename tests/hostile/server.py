"""A process that reads hostile checkpoints, each in a child: `python -m tests.hostile.server`.

It imports dcpctl once and then forks for each request, a JSON line on stdin: `{"path", "command"}`.
`command` is empty to read every entry through the library, or the arguments of a `dcpctl` run. The
answer is a JSON line: the ids of the errors, what was printed, seconds of processor time, peak RSS,
and everything that the child did which a reader has no business doing.
"""

from __future__ import annotations

import faulthandler
import importlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

#: Seconds of processor time after which a child is killed; the limit under test is lower.
KILL_AFTER = 20
#: Bytes of address space; the limit under test is RSS, this one protects the machine.
ADDRESS_SPACE = 6 << 30
_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "shutil.rmtree", "ctypes.dlopen", "webbrowser.open"),
    *("socket.connect", "socket.bind", "socket.__new__"),
)


class _Watch:
    """An audit hook that notes what is not reading."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.on = False
        tempfile.gettempdir()  # tries the directory by writing to it

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not self._temporary(path):
                self.seen.append(f"open {path!r} {mode} {flags}")
        elif event in _FORBIDDEN:
            if event == "os.remove" and self._temporary(args[0]):
                return
            self.seen.append(f"{event} {str(args)[:200]}")

    @staticmethod
    def _temporary(path: object) -> bool:
        """A file that dcpctl makes for decompressed bytes, and unlinks at once."""
        return Path(str(path)).parent == Path(tempfile.gettempdir())


WATCH = _Watch()


def read_everything(path: str) -> dict[str, Any]:
    """Open the checkpoint and read every entry, as a user of the library would."""
    from dcpctl.errors import DcpctlError
    from dcpctl.model.opening import open_checkpoint
    from dcpctl.model.values import to_json

    found: dict[str, Any] = {"opens": "", "reads": [], "message": "", "opaque": []}
    try:
        checkpoint = open_checkpoint(path)
    except DcpctlError as error:
        found["opens"], found["message"] = error.id, error.message
        return found
    ids = set()
    with checkpoint:
        for entry in checkpoint.values():
            try:
                if entry.kind == "bytes":
                    json.dumps(to_json(entry.value))
                    found["opaque"].append(entry.type)
                else:
                    entry.numpy()
                    for _ in entry.blocks(1 << 20):
                        pass
            except DcpctlError as error:
                ids.add(error.id)
                found["message"] += f"{error.message}\n"
    found["reads"] = sorted(ids)
    return found


def run_command(arguments: list[str]) -> dict[str, Any]:
    """Run `dcpctl ARGUMENTS` in this process."""
    from dcpctl.cli import main

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    sys.argv = ["dcpctl", *arguments]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main.main()
        except SystemExit as stop:
            code = stop.code
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
    return {"code": code or 0, "out": texts[0], "err": texts[1]}


def _child(request: dict[str, Any], answer: int) -> None:
    faulthandler.register(signal.SIGXCPU, chain=True)
    resource.setrlimit(resource.RLIMIT_CPU, (KILL_AFTER, KILL_AFTER + 2))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    sys.dont_write_bytecode = True  # what Python keeps of a first import is no deed of ours
    sys.addaudithook(WATCH)
    WATCH.on = True
    start = time.process_time()
    try:
        command = request["command"]
        found = run_command(command) if command else read_everything(request["path"])
    except BaseException:
        found = {"traceback": traceback.format_exc()[-4000:]}
    found["seconds"] = time.process_time() - start
    WATCH.on = False
    found["did"] = WATCH.seen
    with os.fdopen(answer, "w") as pipe:
        json.dump(found, pipe)
    os._exit(0)


def _peak(pid: int) -> tuple[int, int]:
    """Wait for a child; return its exit status and peak RSS in bytes."""
    _, status, usage = os.wait4(pid, 0)
    return status, usage.ru_maxrss * 1024


def _warm_up() -> None:
    """Import here, once, what the commands import: a child tells, and every later one has it."""
    sample = Path(__file__).parents[2] / "sample_checkpoints" / "healthy" / "step-8500"
    reading, writing = os.pipe()
    if not os.fork():
        with tempfile.TemporaryDirectory() as directory:
            run_command(["inspect", str(sample), "--json"])
            run_command(["check", str(sample), "--json", "--verify-data", "--values"])
            run_command(["reshard", str(sample), f"{directory}/out", "--world-size", "1"])
            read_everything(str(sample))
        with os.fdopen(writing, "w") as pipe:
            json.dump(list(sys.modules), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        names = json.load(pipe)
    os.wait()
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)


def main() -> None:
    """Answer requests until stdin ends."""
    _warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            _child(request, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        status, peak = _peak(pid)
        found = json.loads(text) if text else {"traceback": f"no answer, status {status}"}
        found["rss"] = peak
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
