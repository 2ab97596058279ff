"""Speed and memory as ratios against torch, or `cat`, doing the same in the same run.

`python -m tests.benchmarks` prints the table that docs/studies/speed.md shows. Nothing here is
collected as a test: a timed test on a busy machine says more about the machine.
"""
