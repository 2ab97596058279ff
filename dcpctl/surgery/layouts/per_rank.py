"""What a reshard leaves as it is though it belongs to ranks: the job's new ranks find it or not."""

from __future__ import annotations

from dcpctl.errors import listed
from dcpctl.model.draft import BytesDraft, Draft
from dcpctl.model.rank_keys import RankKeys, rank_keys, world_sizes
from dcpctl.model.sections import classify
from dcpctl.model.shard_file import rank_words


def kept_by_rank(draft: Draft, ranks: int) -> list[str]:
    """Say what each rank kept for itself, and what a job of so many ranks makes of it.

    Args:
        draft: the checkpoint, before or after.
        ranks: of the new job.

    Returns:
        A sentence each; none where no key belongs to a rank, or nothing changes for the ranks.
    """
    of = classify(draft).of
    savers = max((len(source.ranks) for source in draft.sources), default=0)
    said = [sentence for keys in rank_keys(of, savers) if (sentence := _said(keys, ranks))]
    sizes = []
    for fqn in world_sizes(of):
        entry = draft.entries[fqn]
        value = entry.value if isinstance(entry, BytesDraft) else None
        if isinstance(value, int) and value != ranks:
            sizes.append(f"{fqn} ({value:,})")
    if sizes:
        said.append(f"{listed(sizes, 3)} is kept as it is; the layout is for {_count(ranks)}")
    return said


def _said(keys: RankKeys, ranks: int) -> str:
    missing = [rank for rank in range(ranks) if rank not in keys.ranks]
    unused = [rank for rank in keys.ranks if rank >= ranks]
    if not missing and not unused:
        return ""
    effects = []
    if missing:
        effects.append(
            f"a job on {_count(ranks)} that asks for {keys.of(missing[0])} finds nothing for "
            f"{rank_words(missing)}, and its load fails"
        )
    if unused:
        effects.append(f"what {rank_words(unused)} had is left unread on {_count(ranks)}")
    return f"{keys.words} is kept by rank, as it is: {'; '.join(effects)}"


def _count(ranks: int) -> str:
    return f"{ranks:,} rank{'' if ranks == 1 else 's'}"
