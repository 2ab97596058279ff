"""Print the table of docs/studies/speed.md.

`python -m tests.benchmarks [--runs N] [--only NAME,NAME]`
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.compare import diff
from tests.benchmarks.reading import chunks, small, verify
from tests.benchmarks.rows import Row
from tests.benchmarks.surgery import surgery, torchrun, twice

BENCHMARKS = {
    "small": small,
    "chunks": chunks,
    "verify": verify,
    "surgery": surgery,
    "twice": twice,
    "torchrun": torchrun,
    "diff": diff,
}


def main() -> None:
    """Run the benchmarks and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted pairs of runs (default 5)")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="which, comma-separated")
    options = parser.parse_args()
    from tabulate import tabulate

    rows: list[Row] = []
    for name in options.only.split(","):
        print(f"{name}: {BENCHMARKS[name].__doc__}", file=sys.stderr)
        rows += BENCHMARKS[name](options.runs)
    headers = ("what", "dcpctl", "against", "ratio", "goal")
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
