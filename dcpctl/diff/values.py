"""Tensors of two checkpoints compared by their numbers.

Equal without reading where the stored checksums prove it; else both are read side by side, in
bounded memory, whatever their layouts, dtypes and names.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from dcpctl.diff.values_difference import CHECKSUMS, READ, SAME_BYTES, ValueDifference
from dcpctl.diff.values_proof import proven_by_crc
from dcpctl.diff.values_work import Pair, Running, Work

__all__ = ["CHECKSUMS", "READ", "SAME_BYTES", "ValueDifference", "compare_values", "proven_by_crc"]

#: Most threads by default; more do not read faster from a page cache.
MOST_THREADS = 8


def compare_values(
    pairs: Sequence[Pair],
    *,
    tolerance: float = 0.0,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    trust_checksums: bool = True,
) -> Iterator[ValueDifference]:
    """Compare pairs of tensors of equal shapes.

    Args:
        pairs: an entry of A and the one of B that it is to be compared with.
        tolerance: largest |a - b| that counts as equal.
        threads: how many read and compare; None for the number of processors, at most 8.
        progress: told of the bytes read so far and in all, both sides together.
        trust_checksums: take equal checksums for equal numbers.

    Yields:
        A difference a pair, in order. What cannot be read is a `failure` and no exception.

    Raises:
        ValueError: the shapes of a pair differ.
    """
    for a, b in pairs:
        if a.shape != b.shape:
            raise ValueError(f"shapes {list(a.shape)} and {list(b.shape)} cannot be compared")
    count = max(1, threads or min(os.cpu_count() or 1, MOST_THREADS))
    work = Work(tolerance, progress)
    proofs = [work.prove(*pair, trust_checksums) for pair in pairs]
    todo = [proof is None for proof in proofs]
    work.total = sum(
        a.nbytes + b.nbytes for (a, b), unproven in zip(pairs, todo, strict=True) if unproven
    )
    if not any(todo):
        yield from (proof for proof in proofs if proof is not None)
        return
    with ThreadPoolExecutor(count, thread_name_prefix="dcpctl-diff") as pool:
        try:
            yield from _in_order(pairs, proofs, work, pool, count)
        finally:
            work.stopped = True
            pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pairs: Sequence[Pair],
    proofs: Sequence[ValueDifference | None],
    work: Work,
    pool: ThreadPoolExecutor,
    threads: int,
) -> Iterator[ValueDifference]:
    """Hand out the work some tensors ahead, and yield what is done."""
    ahead: deque[ValueDifference | Running] = deque()
    handed = 0
    for pair, proof in zip(pairs, proofs, strict=True):
        if proof is not None:
            ahead.append(proof)
        else:
            running = Running(pair, work, pool)
            ahead.append(running)
            handed += len(running.futures)
        while ahead and (handed > 4 * threads or isinstance(ahead[0], ValueDifference)):
            head = ahead.popleft()
            handed -= len(head.futures) if isinstance(head, Running) else 0
            yield head.result() if isinstance(head, Running) else head
    for head in ahead:
        yield head.result() if isinstance(head, Running) else head
