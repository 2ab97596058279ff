"""How a plan is carried out."""

from __future__ import annotations

from dataclasses import dataclass

from dcpctl.errors import UsageError, quote
from dcpctl.parallel import threads_for
from dcpctl.storage import buffer

#: How untouched shard files may reach the destination.
LINKS = ("auto", "reflink", "hardlink", "copy")
#: What the interpreter, NumPy and the metadata of an ordinary checkpoint take, in bytes.
BASE_MEMORY = 112 << 20
#: What one thread may hold at a time: one block to write, and what is read to fill it.
THREAD_MEMORY = 24 << 20
_LEAST_MEMORY = BASE_MEMORY + THREAD_MEMORY + buffer.MEMORY_BYTES


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a plan is carried out.

    Attributes:
        link: `auto` (reflink where the filesystem can, else copy), `reflink` (or fail), `hardlink`
            or `copy`. Copied bytes have their checksums compared, linked ones are not read.
        overwrite: replace a checkpoint that stands at the destination.
        resume: go on with what an interrupted run of the same plan left.
        in_place: change the source itself: new items and a new `.metadata`.
        dry_run: see that it could be done, and write nothing.
        memory: bytes of resident memory to stay below.
        jobs: threads; None takes one for each processor, at most 8.
        progress: draw a progress line where somebody watches.
        side_files: carry over the files beside the shards.
        keep_rank: the rank whose copies the sources were opened with (`open_checkpoint`), where
            each rank saved its own; None where nobody chose, and copies that differ are refused.
        to: `dcp` writes a DCP checkpoint of whatever form; None keeps safetensors safetensors.

    Raises:
        UsageError: an unknown link mode, too little memory, fewer than one thread, or flags that
            contradict each other.
    """

    link: str = "auto"
    overwrite: bool = False
    resume: bool = False
    in_place: bool = False
    dry_run: bool = False
    memory: int = 256 << 20
    jobs: int | None = None
    progress: bool = True
    side_files: bool = True
    keep_rank: int | None = None
    to: str | None = None

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise UsageError(
                f"unknown link mode {quote(self.link)}; it is one of {', '.join(LINKS)}"
            )
        if self.to not in (None, "dcp"):
            raise UsageError(f"no form {quote(self.to)} is written; --to takes dcp")
        if self.memory < _LEAST_MEMORY:
            raise UsageError(
                f"{self.memory >> 20} MiB of memory are not enough; "
                f"the least is {_LEAST_MEMORY >> 20} MiB"
            )
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"{self.jobs} jobs are asked for; the least is 1")
        if self.in_place and (self.overwrite or self.resume):
            raise UsageError("an edit in place neither overwrites nor resumes")
        if self.in_place and not self.side_files:
            raise UsageError("an edit in place leaves the files beside the shards where they are")

    def threads(self, *, decompressing: bool = False) -> int:
        """Threads that share the memory, one of which may be holding a decompressed item."""
        free = self.memory - BASE_MEMORY - (buffer.MEMORY_BYTES if decompressing else 0)
        return max(1, min(threads_for(self.jobs), free // THREAD_MEMORY))
