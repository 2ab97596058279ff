"""Do the numbers go on where the sibling's are? What order and shape cannot tell.

Two tensors of one dtype and shape look the same in their archives, and so do two ranks' files. But
weights change little from one save to the next, so a sample of a tensor correlates with the
sibling's sample of the same one, and not with that of another. Where it is the other way round, the
items are not in the order that they are taken for. Of the optimizer's state second moments are
compared, by their logarithms, since a few of them are far larger than all others; first moments are
not: they forget within a few steps, and gradients of different weights have directions in common.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dcpctl.errors import DcpctlError
from dcpctl.formats import dtypes
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.model.sections import classify
from dcpctl.parallel import map_all
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.survey import Survey

#: Numbers of a sample, and the fewest that say something.
_SAMPLE, _FEWEST = 512, 48
#: Standard errors by which a wrong partner must correlate better than the right one, and how well.
_ERRORS, _SURELY = 6.0, 0.5
#: Standard errors from which on a correlation is none of chance.
_CONFIRMED = 3.0
#: State slots whose numbers are sums of squares, or as large and without sign.
_SQUARES = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "sum", "exp_inf"})
#: Chunks that are looked at, at most.
_MOST = 16_384
#: Tensors of one form that are compared with one another, and those of a file that stand for it.
_MOST_ALIKE, _MOST_OF_FILE = 512, 24

Samples = NDArray[np.float32]
Key = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Continuity:
    """What the numbers say.

    Attributes:
        confirmed: chunks that continue the sibling's chunk of the same name.
        compared: chunks that were looked at.
        contradictions: sentences on chunks and files that continue another one instead.
    """

    confirmed: int
    compared: int
    contradictions: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    key: Key
    file: int
    form: tuple[str, tuple[int, ...]]
    mine: Samples
    theirs: Samples
    odd: bool = False


def continuity(
    survey: Survey, mine: Checkpoint, sibling: Checkpoint, options: RepairOptions
) -> Continuity:
    """Compare samples of the good chunks with the sibling's chunks of the same names.

    Args:
        survey: of the broken checkpoint.
        mine: the broken checkpoint, with its good chunks in place.
        sibling: another save.
        options: threads.
    """
    state = {fqn for raw in classify(sibling).optimizers for fqn in raw.fqns}
    squares = {fqn for fqn in state if not _SQUARES.isdisjoint(fqn.split("."))}
    left_out = state - squares
    keys = [
        k for k in survey.good if k[1] >= 0 and k[0] in sibling.tensors and k[0] not in left_out
    ]
    keys = keys[:: 1 + len(keys) // _MOST]
    pairs = map_all(lambda key: _pair(mine, sibling, key, key[0] in squares), keys, options.threads)
    held = [pair for pair in pairs if pair is not None]
    said = [
        f"the numbers of '{pair.key[0]}' are negative, the sibling's are not"
        for pair in held
        if pair.odd
    ]
    held = [pair for pair in held if not pair.odd]
    of_form: dict[Any, list[_Pair]] = defaultdict(list)
    for pair in held:
        of_form[(pair.file, pair.form)].append(pair)
    confirmed = 0
    for alike in of_form.values():
        for first in range(0, len(alike), _MOST_ALIKE):
            some = alike[first : first + _MOST_ALIKE]
            own, wrong = _partners([p.mine for p in some], [p.theirs for p in some])
            confirmed += int((own > _CONFIRMED / np.sqrt(len(some[0].mine))).sum())
            said += [
                f"the numbers of '{some[a].key[0]}' continue those of '{some[b].key[0]}'"
                for a, b in wrong
            ]
    said += _files(survey, held)
    return Continuity(confirmed, len(held), tuple(said))


def _files(survey: Survey, held: Sequence[_Pair]) -> list[str]:
    """Sentences on whole files that continue another one of the same form."""
    by_file: dict[int, list[_Pair]] = defaultdict(list)
    for pair in held:
        if len(by_file[pair.file]) < _MOST_OF_FILE:
            by_file[pair.file].append(pair)
    alike: dict[Any, list[int]] = defaultdict(list)
    for file, pairs in by_file.items():
        alike[tuple(pair.form for pair in pairs)].append(file)
    said = []
    names = survey.layout.files
    for files in alike.values():
        for first in range(0, len(files), _MOST_ALIKE):
            some = files[first : first + _MOST_ALIKE]
            joined = [np.concatenate([p.mine for p in by_file[f]]) for f in some]
            theirs = [np.concatenate([p.theirs for p in by_file[f]]) for f in some]
            _, wrong = _partners(joined, theirs)
            said += [
                f"the numbers in {names[some[a]]} continue those in the sibling's {names[some[b]]}"
                for a, b in wrong
            ]
    return said


def _partners(
    mine: Sequence[Samples], theirs: Sequence[Samples]
) -> tuple[NDArray[np.float32], list[tuple[int, int]]]:
    """Correlations with the right partners, and (number, number) of wrong ones that fit better.

    A wrong partner counts only where its own right one does not fit either: two tensors that are
    nearly the same, as a model and its average, both fit both.
    """
    a, b = np.stack(mine), np.stack(theirs)
    scale = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    table = (a @ b.T) / np.maximum(scale, 1e-30)
    own = table.diagonal()
    limit = np.maximum(own[:, None], own[None]) + _margin(a.shape[1])
    rows, columns = np.nonzero((table > limit) & (table > _SURELY))
    return own, list(zip(rows.tolist(), columns.tolist(), strict=True))


def _margin(count: int) -> float:
    return float(_ERRORS / np.sqrt(count))


def _pair(mine: Checkpoint, sibling: Checkpoint, key: Key, squares: bool) -> _Pair | None:
    """Samples of a chunk here and there; None where there are too few numbers, or all the same."""
    fqn, row = key
    one, other = mine.entries[fqn], sibling.entries[fqn]
    if not isinstance(one, TensorEntry) or not isinstance(other, TensorEntry):
        return None
    if one.dtype != other.dtype or dtypes.info(one.dtype).kind != "float":
        return None
    chunk = one.chunks[row]
    same = len(other.chunks) > row and other.chunks[row][:2] == chunk[:2]
    starts, stops = _middle(chunk.sizes)
    if not same or int(np.prod(np.subtract(stops, starts))) < _FEWEST:
        return None
    try:
        read = [entry.read_chunk(row, starts, stops) for entry in (one, other)]
    except DcpctlError:
        return None
    a, b = (part.astype(np.float32).reshape(-1) for part in read)
    if not (np.isfinite(a).all() and np.isfinite(b).all() and a.any() and b.any()):
        return None
    form = (f"{one.dtype} squares" if squares else one.dtype, chunk.sizes)
    if squares and (b < 0).any():
        return None
    if squares and (a < 0).any():
        return _Pair(key, chunk.file, form, a, b, odd=True)
    if squares:
        a, b = _logarithms(a), _logarithms(b)
    a, b = _sample(a), _sample(b)
    return _Pair(key, chunk.file, form, a, b) if a.any() and b.any() else None


def _logarithms(numbers: Samples) -> Samples:
    made: Samples = np.log(np.maximum(numbers, np.float32(1e-6) * numbers.max()))
    return made


def _sample(numbers: Samples) -> Samples:
    """The numbers around their mean, as a vector of length one; zeros if they are all the same."""
    around = numbers - numbers.mean()
    norm = float(np.linalg.norm(around))
    # What rounding leaves of a constant is no sample of anything.
    if not norm > 1e-6 * float(np.abs(numbers).max()):
        return np.zeros_like(around)
    made: Samples = around / np.float32(norm)
    return made


def _middle(sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A box of at most `_SAMPLE` elements in the middle, long in the last dimensions."""
    left = _SAMPLE
    starts: list[int] = []
    stops: list[int] = []
    for size in reversed(sizes):
        take = min(size, max(left, 1))
        start = (size - take) // 2
        starts.insert(0, start)
        stops.insert(0, start + take)
        left //= max(take, 1)
    return tuple(starts), tuple(stops)
