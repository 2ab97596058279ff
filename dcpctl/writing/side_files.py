"""Files of a save that are no shards: what is carried over, and what is not and why.

Frameworks keep half of a job's state beside the shards: Megatron-core's `common.pt`, Lightning's
`meta.pt`, accelerate's `scheduler.bin`, a dataloader's position for each rank, a tokenizer. No list
of names says what belongs to a save, so every file in and below its directory does.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dcpctl import limits
from dcpctl.errors import LimitExceeded, PathOutsideCheckpoint, ReadFailed, Refused, listed, quote
from dcpctl.model.checkpoint import Checkpoint, Part
from dcpctl.storage.paths import check_relative, real_path

#: dcpctl's own: what undo needs of the source alone, and what interrupted runs have left.
_OWN = re.compile(r"\.metadata\.dcpctl-\d+\.bak|\.dcpctl-\d+\.tmp|\..*\.partial-[0-9a-f]{8}")
#: Metadata in any form, which the result has of its own.
_METADATA = re.compile(r"(__\d+)?\.metadata")
_WEIGHTS = re.compile(r".*\.safetensors")
_SHARD = re.compile(r"__\d+_\d+\.distcp")
#: torch's FileSystemWriter writes `.metadata.tmp` and renames it.
_TEMPORARY = re.compile(r".*\.(metadata|distcp)\.tmp|\.nfs[0-9a-f]+")
_HIDDEN_STAGING = re.compile(r"\.(.*[-_.])?(tmp|temp|partial|incomplete|staging)([-_.].*)?", re.I)


@dataclass(frozen=True, slots=True)
class SideFile:
    """A file of a save that is no shard.

    Attributes:
        name: path relative to the save's directory, with slashes; the same in the result.
        root: the save's directory.
        size: bytes.
        mode: permission bits.
    """

    name: str
    root: Path
    size: int
    mode: int

    def read(self, most: int) -> bytes:
        """The whole file; nothing of one that has more than `most` bytes, which is data.

        Raises:
            ReadFailed: the operating system failed.
        """
        if self.size > most:
            return b""
        try:
            return (self.root / self.name).read_bytes()
        except OSError as error:
            raise ReadFailed(f"reading {quote(self.name)} failed: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Left:
    """Something beside the shards that is not carried over.

    Attributes:
        name: path relative to the save's directory.
        why: a clause.
        junk: nobody misses it.
    """

    name: str
    why: str
    junk: bool = False


@dataclass(slots=True)
class SideFiles:
    """What lies beside the shards of one save or of several.

    Attributes:
        files: those that are carried over, by name.
        directories: relative paths of all directories below the save's, parents first.
        left: what is not carried over.
        checkpoints: directories among them that are checkpoints of their own.
    """

    files: dict[str, SideFile] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of all files that are carried over."""
        return sum(file.size for file in self.files.values())

    @property
    def loose(self) -> list[SideFile]:
        """The files that are not inside a checkpoint of its own."""
        inside = tuple(f"{name}/" for name in self.checkpoints)
        return [f for f in self.files.values() if not (inside and f.name.startswith(inside))]


def beside(checkpoints: Sequence[Checkpoint], roots: Sequence[Path] | None = None) -> SideFiles:
    """Return what lies beside the shards of checkpoints; reads directories and no file.

    Args:
        checkpoints: the sources of a result; of a name that several have, the first one's file is
            carried, and the others are named unless they are the same byte for byte.
        roots: directories to look into; None takes those of the checkpoints.

    Raises:
        Refused: something is neither a file nor a directory nor a link.
        LimitExceeded: there are more files than any save has.
        ReadFailed: a directory cannot be listed.
    """
    shards: set[Path] = set()
    parts: dict[Path, set[str]] = {}
    common: dict[Path, str] = {}
    for checkpoint in checkpoints:
        around = checkpoint.directory.resolve()
        known = parts.setdefault(around, set())
        # Saves lie side by side there, and one of them is what its parts' names begin with.
        common[around] = "" if checkpoint.path.is_dir() else checkpoint.path.name
        for part in checkpoint.parts:
            root = part.storage.root.resolve()
            if root.is_relative_to(around):
                known.add(root.relative_to(around).as_posix())
            shards.update(_described(root, part))
    found = SideFiles()
    for root in parts if roots is None else [root.resolve() for root in roots]:
        walk = _Walk(root, shards, parts.get(root, {"."}))
        walk.look("", common.get(root, ""))
        _add(found, walk.found)
        if walk.odd:
            raise Refused(
                f"{listed(walk.odd)} in {quote(root)}: neither a file nor a directory, so that it "
                "cannot be carried over",
                hint="remove it, or leave all files beside the shards: --no-side-files",
            )
    return found


def _described(root: Path, part: Part) -> Iterator[Path]:
    """The files that a part's metadata are or name, and what links among them lead to."""
    names = list(part.stored.files)
    if part.stored.form.per_rank:
        names += [name for name in part.storage.names() if _METADATA.fullmatch(name)]
    for name in filter(None, (*names, part.stored.metadata_file)):
        yield root / name
        leads_to = real_path(root / name)
        if leads_to is not None:
            yield leads_to


def _add(found: SideFiles, more: SideFiles) -> None:
    for name, file in more.files.items():
        other = found.files.setdefault(name, file)
        if other is not file and not _same(other, file):
            found.left.append(Left(name, f"{quote(other.root)} has another file of that name"))
    found.directories += [name for name in more.directories if name not in found.directories]
    found.left += more.left
    found.checkpoints += more.checkpoints


def _same(one: SideFile, other: SideFile) -> bool:
    if one.size != other.size:
        return False
    try:
        with (
            (one.root / one.name).open("rb") as left,
            (other.root / other.name).open("rb") as right,
        ):
            while block := left.read(1 << 20):
                if block != right.read(len(block)):
                    return False
    except OSError as error:
        raise ReadFailed(f"reading {quote(one.name)} failed: {error.strerror}") from None
    return True


class _Walk:
    """One save's directory, looked through."""

    def __init__(self, root: Path, shards: set[Path], parts: set[str]) -> None:
        self.root = root
        self.shards = shards
        self.parts = parts
        self.found = SideFiles()
        self.odd: list[str] = []

    def look(self, below: str, prefix: str = "") -> None:
        names = set()
        for entry in self._entries(below):
            if not entry.name.startswith(prefix):
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            names.add(entry.name)
            if _OWN.fullmatch(entry.name) or self.root / name in self.shards:
                continue
            if (below or ".") in self.parts and _TEMPORARY.fullmatch(entry.name):
                why = "a temporary file of an interrupted save"
                self.found.left.append(Left(name, why, junk=True))
            elif why := self._why_left(entry, below):
                self._leave(name, why)
            elif entry.is_symlink():
                self._link(entry, name)
            elif entry.is_dir(follow_symlinks=False):
                self._directory(name)
            elif entry.is_file(follow_symlinks=False):
                self._file(name, entry.stat(follow_symlinks=False))
            else:
                self.odd.append(name)
        its_own = any(map(_METADATA.fullmatch, names)) or any(map(_WEIGHTS.fullmatch, names))
        if (below or ".") not in self.parts and its_own:
            self.found.checkpoints.append(below)

    def _entries(self, below: str) -> Iterator[os.DirEntry[str]]:
        where = self.root / below
        try:
            with os.scandir(where) as scan:
                yield from sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise ReadFailed(f"cannot list {quote(where)}: {error.strerror}") from None

    def _why_left(self, entry: os.DirEntry[str], below: str) -> str:
        """Why something is not carried over, told by its name and place; empty if it is."""
        name = entry.name
        try:
            check_relative(name)
        except PathOutsideCheckpoint:
            return "its name is no plain relative path"
        if (below or ".") in self.parts:
            if _METADATA.fullmatch(name):
                return "other metadata, which describes other files than the result has"
            if _SHARD.fullmatch(name):
                return "a shard file that the metadata does not name"
        if _HIDDEN_STAGING.fullmatch(name) and entry.is_dir(follow_symlinks=False):
            return "a hidden staging directory"
        return ""

    def _directory(self, name: str) -> None:
        """Look into a directory; one of shards is in the result only if files lie beside them."""
        before, known = len(self.found.directories), len(self.found.files)
        self.found.directories.append(name)
        self.look(name)
        around = any(part == name or part.startswith(f"{name}/") for part in self.parts)
        more = len(self.found.directories) > before + 1 or len(self.found.files) > known
        if around and not more:
            del self.found.directories[before]

    def _link(self, entry: os.DirEntry[str], name: str) -> None:
        target = Path(entry.path).readlink()
        try:
            real = Path(entry.path).resolve(strict=True)
            status = real.stat()
        except (OSError, RuntimeError):
            self._leave(name, f"a symbolic link to {quote(target)}, where nothing is")
            return
        if not real.is_relative_to(self.root):
            self._leave(name, f"a symbolic link to {quote(target)}, outside of the checkpoint")
        elif stat.S_ISREG(status.st_mode) and real not in self.shards:
            self._file(name, status)
        else:
            self._leave(name, f"a symbolic link to {quote(target)}")

    def _leave(self, name: str, why: str) -> None:
        self.found.left.append(Left(name, why))

    def _file(self, name: str, status: os.stat_result) -> None:
        if len(self.found.files) >= limits.SIDE_FILES:
            raise LimitExceeded(
                f"{quote(self.root)} holds more than {limits.SIDE_FILES:,} files beside its shards",
                hint="leave them with --no-side-files",
            )
        mode = stat.S_IMODE(status.st_mode) & 0o777
        self.found.files[name] = SideFile(name, self.root, status.st_size, mode)
