"""Ranks that die by SIGKILL at one step after the other, or that meet the ranks of another job.

`python -m tests.test_writing.killing_ranks kill|meet JOB SOURCE PLACE [RANK:STEP ...]` prints a
JSON list of what was to be seen at each step, or at the named ones. The ranks are forked here and
not by torchrun, which would end the rest when one dies: each has to notice by itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch.distributed  # noqa: F401  (once, before there are ranks)

from dcpctl.errors import DcpctlError
from dcpctl.writing.steps import observed
from tests.test_writing.building import hashes
from tests.test_writing.killing import JOBS, killed_at, prepare

RANKS = 2
#: Seconds that ranks have to end in; gloo alone would let them wait for a week.
SOON = 60.0
Observer = Callable[[str], None]


def start(act: Callable[[], None], watched: dict[int, Observer], said: Path) -> list[int]:
    """Fork the ranks of a job; returns their process ids. `said` gets a file for each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    job |= {"WORLD_SIZE": str(RANKS), "TORCHELASTIC_RUN_ID": "none"}
    pids = []
    for rank in range(RANKS):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        os.environ.update(job, RANK=str(rank))
        code = 0
        try:
            with observed(watched[rank]) if rank in watched else nullcontext():
                act()
        except DcpctlError as error:
            code = error.exit_code
            said.with_name(f"{said.name}{rank}").write_text(f"{error.id}: {error}")
        except BaseException as error:
            code = 70
            said.with_name(f"{said.name}{rank}").write_text(repr(error))
        os._exit(code)
    return pids


def ended(pids: list[int]) -> list[int | str]:
    """The exit status of each, negative for a signal, or that it waits for ever."""
    codes: dict[int, int | str] = {}
    deadline = time.monotonic() + SOON
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                elif time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    codes[pid] = "waits"
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


def told(said: Path) -> list[str]:
    """What the error of each rank was; takes it away."""
    paths = [said.with_name(f"{said.name}{rank}") for rank in range(RANKS)]
    texts = [path.read_text() if path.exists() else "" for path in paths]
    for path in paths:
        path.unlink(missing_ok=True)
    return texts


def numbered(number: int, step: str | None, act: Callable[[str], None]) -> Observer:
    """Act once, at the step of that number, or with `step` at the first that begins so."""
    left = [number]

    def observer(name: str) -> None:
        left[0] -= 0 if step is not None and not name.startswith(step) else 1
        if left[0] == -1:
            act(name)

    return observer


def kill(job: str, source: Path, place: Path, wanted: list[tuple[int, str]]) -> list[Any]:
    """One rank is killed; all are started again, or one process goes on alone."""
    note, said = place.with_name("step"), place.with_name("said")
    seen = []
    every = [(rank, None, number) for rank in range(RANKS) for number in range(1000)]
    over: set[int] = set()
    for rank, step, number in [(*one, 0) for one in wanted] or every:
        if rank in over:
            continue
        prepare(job, source, place)

        def die(name: str) -> None:
            note.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

        observer = killed_at(number, note) if step is None else numbered(0, step, die)
        codes = ended(start(lambda: JOBS[job](source, place, False), {rank: observer}, said))
        if not any(codes):
            over.add(rank)
            continue
        one = {"rank": rank, "step": note.read_text(), "codes": codes, "said": told(said)}
        one["after"] = hashes(place)
        again = start(lambda: JOBS[job](source, place, True), {}, said)
        seen.append({**one, "again": ended(again), "end": hashes(place)})
        told(said)
    return seen


def meet(job: str, source: Path, place: Path, wanted: list[tuple[int, str]]) -> list[Any]:
    """While rank 0 of one job stands at a step, another job to the same destination does it all."""
    note, said, go = (place.with_name(name) for name in ("step", "said", "go"))
    other = place.with_name("other")
    seen: list[Any] = []
    for number in range(1000):
        prepare(job, source, place)
        for path in (note, go):
            path.unlink(missing_ok=True)

        def wait(name: str) -> None:
            note.with_suffix(".new").write_text(name)
            note.with_suffix(".new").rename(note)
            while not go.exists():
                time.sleep(0.005)

        step = wanted[number][1] if number < len(wanted) else None
        if wanted and step is None:
            break
        observer = numbered(0 if wanted else number, step, wait)
        first = start(lambda: JOBS[job](source, place, False), {0: observer}, said)
        deadline = time.monotonic() + SOON
        while not note.exists() and time.monotonic() < deadline:
            if os.waitid(os.P_PID, first[0], os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.005)
        if not note.exists():
            ended(first)
            break
        second = ended(start(lambda: JOBS[job](source, place, False), {}, other))
        go.touch()
        one = {"step": note.read_text(), "first": ended(first), "second": second}
        seen.append({**one, "said": told(said) + told(other), "end": hashes(place)})
    return seen


def main() -> None:
    act, job, source, place, *names = sys.argv[1:]
    wanted = [(int(name.partition(":")[0]), name.partition(":")[2]) for name in names]
    seen = {"kill": kill, "meet": meet}[act](job, Path(source), Path(place), wanted)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
