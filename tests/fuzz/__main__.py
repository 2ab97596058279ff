"""Fuzz the parsers for longer: `python -m tests.fuzz --minutes 10 [--target metadata] [--atheris]`.

Without `--atheris` inputs are mutations of the samples; with it (`pip install atheris`) coverage
guides them. An input that raises anything but `DcpctlError`, takes over five seconds or too much
memory is written to `--crashes` and ends the run with exit code 1.

With `--flips` every single bit of small checkpoints is flipped (`tests/fuzz/flips.py`).

With `--differential` dcpctl, CPython's C unpickler and `torch.load` read each input, and none of
them may find what the others do not (`tests/fuzz/differential.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SECONDS = 5
MEGABYTES = 500


def main() -> int:
    """Run one target, or all in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--target", action="append")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("--differential", action="store_true")
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    options = parser.parse_args()
    shared = options.shared if options.shared.is_dir() else None
    if options.flips:
        from tests.fuzz import flips

        return flips.run(shared)
    if options.atheris:
        return with_atheris(options, shared)
    if options.differential:
        from tests.fuzz import differential

        return differential.run(options.minutes, options.seed, shared, options.crashes)
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

    inputs = seeds()
    names = options.target or list(TARGETS)
    crashes = 0
    for name in names:
        seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
        until = time.monotonic() + 60 * options.minutes / len(names)
        crashes += with_mutations(TARGETS[name], name, inputs[name], seed, until, options.crashes)
    return 1 if crashes else 0


def with_mutations(
    target: Callable[[bytes], None],
    name: str,
    inputs: list[bytes],
    seed: int,
    until: float,
    crashes: Path,
) -> int:
    """Mutate until the time is over; return how many inputs failed."""
    from tests.fuzz.mutate import mutated

    def late(signum: int, frame: object) -> None:
        raise TimeoutError(f"over {SECONDS} seconds")

    signal.signal(signal.SIGALRM, late)
    rng = random.Random(seed)
    count, failed = 0, 0
    while time.monotonic() < until:
        data = mutated(inputs, rng)
        count += 1
        signal.alarm(SECONDS)
        try:
            target(data)
        except Exception:
            failed += 1
            crashes.mkdir(exist_ok=True)
            path = crashes / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"{path}\n{traceback.format_exc()[-2000:]}", flush=True)
        finally:
            signal.alarm(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{name}: seed {seed}, {count} inputs, {failed} failures, peak {peak} MB", flush=True)
    return failed + (peak > MEGABYTES)


def with_atheris(options: argparse.Namespace, shared: Path | None) -> int:
    """Hand one target to libFuzzer; with `--differential` one of that harness's judges."""
    import atheris

    (name,) = options.target
    with atheris.instrument_imports(include=["dcpctl"]):
        from dcpctl.errors import DcpctlError
        from tests.fuzz import differential
        from tests.fuzz.seeds import LARGEST, seeds
        from tests.fuzz.targets import TARGETS
    guides = {}
    if options.differential:
        sys.addaudithook(differential.watch)
        subject = differential.subjects(shared)[name]
        inputs, target = subject.seeds, subject.judge

        def mutated(data: bytes, most: int, seed: int) -> bytes:
            """Change opcodes and records, with checksums that fit, as well as bytes."""
            rng = random.Random(seed)
            if rng.random() < 0.7:
                with suppress(ValueError, struct.error, LookupError, DcpctlError):
                    return subject.mutated(data, rng.choice(subject.seeds), rng)[:most]
            found: bytes = atheris.Mutate(data, most)
            return found

        guides["custom_mutator"] = mutated
    else:
        inputs, target = seeds()[name], TARGETS[name]
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, data in enumerate(inputs):
        (corpus / str(number)).write_bytes(data)
    options.crashes.mkdir(exist_ok=True)
    arguments = [
        *(sys.argv[0], str(corpus), f"-max_total_time={60 * options.minutes:.0f}"),
        # libFuzzer itself grows by some 50 KB an input; memory is what the other mode watches.
        *(f"-timeout={SECONDS}", "-rss_limit_mb=4000", f"-max_len={LARGEST}"),
        *(f"-artifact_prefix={options.crashes}/{name}-", "-print_final_stats=1"),
    ]
    atheris.Setup(arguments, lambda data: target(data) and None, **guides)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
