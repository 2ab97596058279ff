"""Tensors of two checkpoints compared by their numbers.

Equal without reading where the stored checksums prove it; else both are read side by side, in
bounded memory, whatever their layouts, dtypes and names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dcpctl.diff.values_difference import CHECKSUMS, READ, SAME_BYTES, ValueDifference
from dcpctl.diff.values_proof import proven_by_crc
from dcpctl.diff.values_work import Pair, Work
from dcpctl.parallel import Threads, threads_for

__all__ = ["CHECKSUMS", "READ", "SAME_BYTES", "ValueDifference", "compare_values", "proven_by_crc"]


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
    work = Work(tolerance, progress)
    proofs = [work.prove(*pair, trust_checksums) for pair in pairs]
    unproven = [pair for pair, proof in zip(pairs, proofs, strict=True) if proof is None]
    work.meter.total = sum(a.nbytes + b.nbytes for a, b in unproven)
    with Threads(threads_for(threads), "diff") as crew:
        read = work.compare(unproven, crew)
        for proof in proofs:
            yield proof if proof is not None else next(read)
