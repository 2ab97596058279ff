"""Run by test_faults in a small filesystem of its own: it fills up while a result is written."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from dcpctl.errors import ReadFailed
from dcpctl.writing.staging import leftovers
from tests.test_writing.building import hashes
from tests.test_writing.test_faults import at, attempt


def fill(path: Path) -> None:
    """Write to a file until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def main() -> None:
    """Write a result into a filesystem that is full by then, make room, and go on."""
    source, out = (Path(argument) for argument in sys.argv[1:])
    filler = out.with_name("filler")
    try:
        with at("sync __0_0.distcp", lambda: fill(filler)):
            attempt(source, out, jobs=1)
    except ReadFailed as error:
        print("No space left on device" if "No space left on device" in str(error) else error)
    if out.exists() or not leftovers(out):
        raise SystemExit("something was published, or nothing was kept")
    filler.unlink()
    attempt(source, out, resume=True)
    print("resumed")
    attempt(source, out.with_name("fresh"))
    print("same" if hashes(out) == hashes(out.with_name("fresh")) else "different")


if __name__ == "__main__":
    main()
