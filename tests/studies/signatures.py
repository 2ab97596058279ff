"""How often `dcpctl signature` is right: real runs on a CPU, resumed well and badly.

`python -m tests.studies.signatures` prints the tables of docs/studies/signature.md from the
recorded runs; `... --record FILE --seeds 1 2` makes the runs and records them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

from tests.studies.signature_logs import RECORDED, by_size, by_word, diagnosed, matrix


def record(path: Path, seeds: list[int], names: list[str]) -> None:
    """Train, and write what the logs held."""
    import torch

    from tests.studies.signature_runs import REGIMES, recorded

    torch.set_num_threads(1)
    with gzip.open(path, "wt", encoding="ascii") as stream:
        for seed in seeds:
            for regime in REGIMES:
                for save in recorded(regime, seed) if regime.name in names or not names else ():
                    stream.write(json.dumps(save, separators=(",", ":")) + "\n")
                    print(f"seed {seed}, {regime.name}, step {save['resume']}", file=sys.stderr)


def main() -> None:
    """Record, or print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.signatures", description=__doc__)
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--regimes", nargs="+", default=[])
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    given = parser.parse_args()
    if given.record is not None:
        record(given.record, given.seeds, given.regimes)
        return
    apart = diagnosed(abandoned=False, path=given.recorded)
    abandoned = diagnosed(abandoned=True, path=given.recorded)
    print(f"{len(apart)} runs, each process ends with its save:\n")
    print("\n".join(matrix(apart)))
    print("\nthe same with the steps that the first process still wrote:\n")
    print("\n".join(matrix(abandoned)))
    print("\nhow often each word is right, without and with these steps:\n")
    print("\n".join(by_word(apart, abandoned)))
    print("\ncalled lost-optimizer, without and with these steps:\n")
    print("\n".join(by_size(apart, abandoned)))


if __name__ == "__main__":
    main()
