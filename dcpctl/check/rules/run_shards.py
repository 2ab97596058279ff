"""DCP6xx: are all shards of this save this save's?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.check.stale_shards import find_stale
from dcpctl.model.optimizer.verdict import ABSENT
from dcpctl.model.shard_file import rank_words


@rule("DCP613", ERROR, "shards of the save before among those of this one")
def stale(run: Run) -> Iterator[Hit]:
    """Moments that kept their bits in some files while those in others went on."""
    history = run.since()
    if ABSENT in (history.earlier.view.verdict, history.later.view.verdict):
        raise CannotRun("one of the saves has no optimizer state")
    found = find_stale(history)
    files = run.checkpoint.files
    names = [files[number].name for number in found.files]
    if names:
        fqns = list(dict.fromkeys(fqn for fqn, _ in found.chunks))
        ranks = sorted({rank for n in found.files if (rank := files[n].rank) is not None})
        whole = not found.changed & set(found.files)
        which = f" (of {rank_words(ranks)})" if ranks else ""
        same = "is bit for bit that" if len(found.chunks) == 1 else "are bit for bit those"
        yield Hit(
            fqns[0],
            f"{words.count(len(found.chunks), 'chunk')} of moments in {words.some(names)}{which} "
            f"{same} of {history.earlier.name}, though the run continued: {words.some(fqns)}"
            + ("; nothing compared in these files changed, so they are that save's" * whole),
            names[0],
        )
    if found.unread:
        raise CannotRun(
            f"{words.count(len(found.unread), 'moment')} could not be read "
            f"({words.some(found.unread)}): {next(iter(found.unread.values()))}"
        )
    if found.moments and not found.compared:
        raise CannotRun("the saves have no moments with checksums and equal chunks in common")
