"""What a staging directory holds already: a JSON line for each file, or part of one, that is."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

from dcpctl.storage.renames import is_at
from dcpctl.writing.sink import write_failed

#: 2 says which directory the files are in.
_VERSION = 2


class Journal:
    """The journal of one staging directory, locked while it is open.

    Args:
        path: the file; made if it is not there.

    Attributes:
        finished: file name -> bytes, as an earlier run of the same plan has noted them.
        begun: file name -> bytes from its start on that are on disk, of other files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = path.name
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o666)
        self.finished: dict[str, int] = {}
        self.begun: dict[str, int] = {}

    def acquire(self) -> bool:
        """Lock it; False if another process has it. The lock goes when the process does."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a filesystem without locks
        # Whoever had it may have removed it, the directory and all, before it was free.
        return is_at(os.fstat(self._fd), self._path)

    def read(self, fingerprint: str, directory: int) -> bool:
        """Load what is noted; False if it is of another plan or directory, or damaged.

        Args:
            fingerprint: of the plan.
            directory: inode of the directory that the files are in. After an overwriting it is
                that of what was overwritten, whose files may have the very same names and sizes.
        """
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        try:
            lines = [json.loads(raw) for raw in data.split(b"\n")[:-1]]
            if not lines or lines[0] != _first(fingerprint, directory):
                return False
            self.finished = {line["file"]: line["size"] for line in lines[1:] if "size" in line}
            self.begun = {line["file"]: line["upto"] for line in lines[1:] if "upto" in line}
        except (ValueError, TypeError, KeyError):
            return False  # only a crash of the machine does this
        return True

    def begin(self, fingerprint: str, directory: int) -> None:
        """Empty it, and note whose it is; arguments as of `read`."""
        os.ftruncate(self._fd, 0)
        self.finished, self.begun = {}, {}
        self._append(_first(fingerprint, directory))

    def note(self, name: str, size: int) -> None:
        """Note that a file is finished and on disk."""
        self._append({"file": name, "size": size})

    def note_part(self, name: str, upto: int) -> None:
        """Note that the first `upto` bytes of a file are on disk."""
        self._append({"file": name, "upto": upto})

    def _append(self, line: dict[str, object]) -> None:
        # Other ranks note their files in it too: on Linux a file open for appending is appended to
        # in one step, whatever the offset.
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                os.pwrite(self._fd, data, os.fstat(self._fd).st_size)
                os.fsync(self._fd)
            except OSError as error:
                raise write_failed(self._name, error) from None

    def close(self) -> None:
        """Close it, which unlocks it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _first(fingerprint: str, directory: int) -> dict[str, object]:
    return {"dcpctl": _VERSION, "plan": fingerprint, "files": directory}
