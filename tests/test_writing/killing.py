"""Runs a job in child processes that die by SIGKILL at one step after the other.

`python -m tests.test_writing.killing JOB SOURCE PLACE` prints a JSON list: for each step its name
and what was to be seen after the kill and after the recovery. A process of its own, so that it has
no threads when it forks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from dcpctl import open_checkpoint
from dcpctl.model.draft import Draft
from dcpctl.writing import batches, files
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.steps import observed
from dcpctl.writing.undo import undo
from dcpctl.writing.write import write
from tests.test_writing.building import edited, hashes, resharded

Job = Callable[[Path, Path, bool], None]


def reshard(source: Path, place: Path, again: bool) -> None:
    with open_checkpoint(source) as checkpoint:
        made = plan(resharded(Draft.of(checkpoint), 3), place / "out")
        write(made, WriteOptions(resume=again, jobs=1))


def one_file(source: Path, place: Path, again: bool) -> None:
    """One long file, of which parts are noted; a part is put on disk every 64 KiB."""
    files.PART_BYTES = 64 << 10
    batches.BATCH_BYTES = 16 << 10
    with open_checkpoint(source) as checkpoint:
        made = plan(resharded(Draft.of(checkpoint), 1), place / "out")
        write(made, WriteOptions(resume=again, jobs=1))


def overwrite(source: Path, place: Path, again: bool) -> None:
    with open_checkpoint(source) as checkpoint:
        made = plan(edited(Draft.of(checkpoint), extra=1), place / "out")
        write(made, WriteOptions(overwrite=True, resume=again, jobs=1))


def edit(source: Path, place: Path, again: bool) -> None:
    options = WriteOptions(in_place=True)
    with open_checkpoint(place / "out") as checkpoint:
        if "extra" not in checkpoint:
            write(plan(edited(Draft.of(checkpoint), extra=1), place / "out", options), options)


def take_back(source: Path, place: Path, again: bool) -> None:
    with open_checkpoint(place / "out") as checkpoint:
        done = "extra" not in checkpoint
    if not done or not again:
        undo(place / "out")


JOBS: dict[str, Job] = {
    "reshard": reshard,
    "one_file": one_file,
    "overwrite": overwrite,
    "edit": edit,
    "undo": take_back,
}


def prepare(job: str, source: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if job in ("overwrite", "edit", "undo"):
        shutil.copytree(source, place / "out")
    if job == "undo":
        edit(source, place, False)


def child(act: Callable[[], None]) -> int:
    """Run `act` in a child; returns its exit status, negative for a signal."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number: int, note: Path) -> Callable[[str], None]:
    left = [number]

    def observer(name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            note.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

    return observer


def main() -> None:
    job, source, place = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    note = place.with_name("step")
    seen = []
    for number in range(1000):
        prepare(job, source, place)

        def act(number: int = number) -> None:
            with observed(killed_at(number, note)):
                JOBS[job](source, place, False)

        status = child(act)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise SystemExit(f"step {number}: status {status}")
        after = hashes(place)
        recovered = child(lambda: JOBS[job](source, place, True))
        seen.append(
            {
                "step": note.read_text(),
                "after": after,
                "status": recovered,
                "end": hashes(place),
            }
        )
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
