"""Proof by disagreement: what dcpctl passes, torch reads to the same, and nothing is run.

Inputs are real `.metadata` files and storage items, changed opcode by opcode, record by record or
bit by bit. dcpctl reads each one first, `.metadata` in two ways; only what it passes goes to
CPython's C unpickler and to `torch.load`, which may then find nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import random
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dcpctl.errors import DcpctlError
from dcpctl.formats.metadata import parse_metadata
from dcpctl.formats.pickles.blocks import strip_frames
from dcpctl.formats.records import StoredCheckpoint, StoredTensor
from dcpctl.formats.tensor_read import read_box
from dcpctl.formats.torch_zip import open_item
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import BytesEntry
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.releases import obstacles
from dcpctl.storage.buffer import BufferStorage
from tests.fuzz import archived, mutate, pickled
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import block_threshold, same

SECONDS = 5
MEGABYTES = 500
#: Of inputs, the share that is changed so that most of them are still sound.
_GENTLY = 0.6
#: New inputs in each batch from which mutations start, beside the real ones, and their share.
_MADE, _FROM_MADE = 400, 0.6
LARGEST = 16 << 10
_PER_CHECKPOINT = 6
_BLOCKS, _PLAIN = 64, 1 << 60
_LARGEST_TENSOR = 1e6
#: Audit events that reading must not raise (`sys.addaudithook`).
_ACTS = (
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect"),
    *("pickle.find_class", "os.remove", "os.rename", "os.mkdir", "shutil.rmtree", "ctypes.dlopen"),
)


class Disagreement(AssertionError):
    """dcpctl and torch read other things, or dcpctl does what it must not."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of input.

    Attributes:
        seeds: real inputs.
        judge: reads one input in all ways; True if dcpctl passed it.
        mutated: changes one with parts of another.
        made: writes an input that no sample has.
        batch: inputs of one batch, as many as take about the time of the other kinds'.
    """

    seeds: list[bytes]
    judge: Callable[[bytes], bool]
    mutated: Callable[[bytes, bytes, random.Random], bytes]
    made: Callable[[random.Random], bytes]
    batch: int


class _Watch:
    """An audit hook that is awake while dcpctl reads."""

    awake = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.awake and event in _ACTS:
            raise Disagreement(f"reading raised {event} {args!r:.100}")


watch = _Watch()


def _quietly(read: Callable[[], Any]) -> Any:
    """What dcpctl reads; None where it refuses."""
    watch.awake = True
    try:
        return read()
    except DcpctlError:
        return None
    finally:
        watch.awake = False


def judge_metadata(data: bytes) -> bool:
    """Fast path, plain machine and C unpickler on one `.metadata`."""
    from tests.fuzz import oracle

    with block_threshold(_PLAIN):
        plain = _quietly(lambda: parse_metadata(data))
    blocks = plain
    if strip_frames(data) is not None:
        with block_threshold(_BLOCKS):
            blocks = _quietly(lambda: parse_metadata(data))
    if (plain is None) != (blocks is None):
        raise Disagreement("the plain machine and the blocks do not both refuse")
    if plain is None or plain.duplicates or _lacks_items(plain) or _too_new(plain):
        return False
    if not same(plain, blocks):
        raise Disagreement("the plain machine and the blocks read other things")
    try:
        theirs = oracle.read_metadata(data)
    except oracle.Refused as error:
        if str(error).partition(".")[0] in ("torch", "collections", "builtins"):
            raise Disagreement(f"torch has no {error}") from None
        return True  # a framework's own class, which is not installed here
    ours = oracle.described(plain)
    if ours["entries"] != theirs["entries"] or list(ours["entries"]) != list(theirs["entries"]):
        raise Disagreement(f"torch reads {theirs!r:.600}, dcpctl {ours!r:.600}")
    if ours["planner"] != theirs["planner"]:
        raise Disagreement("torch reads other planner data")
    return True


def _lacks_items(stored: StoredCheckpoint) -> bool:
    """Whether an entry has no storage item, which is an error of `check` (DCP108)."""
    return any(
        (entry.chunks.file < 0).any() if isinstance(entry, StoredTensor) else entry.file < 0
        for entry in stored.entries.values()
    )


def _too_new(stored: StoredCheckpoint) -> bool:
    """Whether the torch here cannot load it, as `check` says (DCP405)."""
    import torch

    return any(True for _ in obstacles(stored, torch.__version__))


def _opened(data: bytes) -> Any:
    storage = BufferStorage("fuzz")
    storage.append(data)
    item = open_item(storage, "", 0, len(data), subject="fuzz")
    sound = all(item.check_crc(name) is not False for name in item.records)
    return item if sound else None


def judge_tensor(data: bytes) -> bool:
    """dcpctl and `torch.load(weights_only=True)` on one tensor item."""
    from tests.fuzz import oracle

    def read() -> Any:
        item = _opened(data)
        if item is None:
            return None
        ref = item.tensor()
        if np.prod([float(size) for size in ref.shape]) > _LARGEST_TENSOR:
            return None
        return ref, read_box(item, ref)

    found = _quietly(read)
    if found is None:
        return False
    ref, array = found
    tensor = oracle.load_item(data, value=False)
    if (
        not oracle.same_tensor(array, ref.dtype, tensor)
        or tensor.requires_grad != ref.requires_grad
    ):
        raise Disagreement(f"torch reads {tensor!r:.300}, dcpctl {array!r:.300}")
    return True


def judge_value(data: bytes) -> bool:
    """dcpctl and `torch.load` with a restricted unpickler on one bytes entry."""
    from tests.fuzz import oracle

    def read() -> Any:
        item = _opened(data)
        if item is None:
            return None
        machine = item.decode(1 << 20)
        # What dcpctl names as code that loading imports or calls, it does not pass.
        return None if machine.uses else (item.value(),)

    found = _quietly(read)
    if found is None:
        return False
    try:
        theirs = oracle.load_item(data, value=True)
    except oracle.Refused:
        return True  # a class that the restricted unpickler does not have
    if not oracle.same_value(found[0], theirs):
        raise Disagreement(f"torch reads {theirs!r:.300}, dcpctl {found[0]!r:.300}")
    return True


def _metadata(data: bytes, other: bytes, rng: random.Random) -> bytes:
    how = rng.random()
    if how < _GENTLY:
        return pickled.gentle(data, other, rng)
    if how < _GENTLY + 0.08:
        return mutate.mutated([data, other], rng)
    return pickled.mutated(data, other, rng)


def _item(data: bytes, other: bytes, rng: random.Random) -> bytes:
    how = rng.random()
    if how < _GENTLY:
        return archived.gentle(data, other, rng)
    if how < _GENTLY + 0.08:
        return mutate.mutated([data, other], rng)
    return archived.mutated(data, other, rng)


def subjects(shared: Path | None) -> dict[str, Subject]:
    """Real inputs that torch and dcpctl read alike, from the samples and from `shared`."""
    from tests.fuzz import made

    known = seeds()
    metadata, tensors, values = set(known["metadata"]), set(), set()
    roots = [Path(__file__).resolve().parents[2] / "sample_checkpoints"]
    if shared is not None:
        roots += [shared / name for name in ("checkpoints", "frameworks", "reports")]
    for root in roots:
        for path in sorted(root.rglob(".metadata")):
            if path.stat().st_size <= LARGEST:
                metadata.add(path.read_bytes())
            try:
                with open_checkpoint(path.parent) as checkpoint:
                    _collect(checkpoint, tensors, values)
            except DcpctlError:
                continue
    return {
        "metadata": Subject(
            _agreed(metadata, judge_metadata), judge_metadata, _metadata, made.metadata, 10_000
        ),
        "tensor": Subject(_agreed(tensors, judge_tensor), judge_tensor, _item, _tensor, 40_000),
        "value": Subject(_agreed(values, judge_value), judge_value, _item, made.value_item, 40_000),
    }


def _tensor(rng: random.Random) -> bytes:
    from tests.fuzz import made

    return archived.grown(rng) if rng.random() < 0.5 else made.tensor_item(rng)


def _collect(checkpoint: Checkpoint, tensors: set[bytes], values: set[bytes]) -> None:
    if checkpoint.format != "dcp" or len(checkpoint.parts) != 1:
        return
    storage = checkpoint.parts[0].storage
    for fqn in list(checkpoint)[:: max(1, len(checkpoint) // _PER_CHECKPOINT)]:
        entry = checkpoint[fqn]
        if entry.stored.transforms:
            continue
        stored = entry if isinstance(entry, BytesEntry) else next(iter(entry.chunks), None)
        if stored is None or not 0 < stored.length <= LARGEST or stored.file < 0:
            continue
        try:
            data = storage.read(checkpoint.files[stored.file].name, stored.offset, stored.length)
        except DcpctlError:
            continue
        (values if isinstance(entry, BytesEntry) else tensors).add(data)


def _agreed(inputs: set[bytes], judge: Callable[[bytes], bool]) -> list[bytes]:
    """Those that are passed; of other releases torch here may not be able to read them."""
    kept = []
    for data in sorted(inputs):
        try:
            if judge(data):
                kept.append(data)
        except Exception:
            continue
    return kept


def flips(data: bytes, step: int = 1) -> Iterator[bytes]:
    """Each single bit of an input flipped; every `step`th of them."""
    for bit in range(0, 8 * len(data), step):
        spoilt = bytearray(data)
        spoilt[bit >> 3] ^= 1 << (bit & 7)
        yield bytes(spoilt)


def mutants(subject: Subject, seed: int, count: int) -> Iterator[bytes]:
    """`count` inputs that a seed determines."""
    rng = random.Random(seed)
    # Large inputs take longer and are no more likely to be read in two ways.
    weights = list(itertools.accumulate(1 / (500 + len(data)) for data in subject.seeds))
    new: list[bytes] = []
    for _ in range(min(_MADE, count // 5)):
        with suppress(TypeError, ValueError):  # what cannot be pickled
            new.append(subject.made(rng))
    yield from new
    for _ in range(count - len(new)):
        if new and rng.random() < _FROM_MADE:
            data = rng.choice(new)
        else:
            (data,) = rng.choices(subject.seeds, cum_weights=weights)
        # What was spoilt before may not come apart into opcodes and records any more.
        with suppress(ValueError, struct.error, DcpctlError):
            data = subject.mutated(data, rng.choice(subject.seeds), rng)
        yield data


@dataclass(slots=True)
class Tally:
    """What a run of inputs came to."""

    inputs: int = 0
    passed: int = 0
    failed: int = 0


def judge_all(subject: Subject, name: str, inputs: Iterator[bytes], crashes: Path) -> Tally:
    """Judge inputs in this process; what fails is written down."""

    def late(signum: int, frame: object) -> None:
        raise Disagreement(f"over {SECONDS} seconds")

    # The time of this process, not of others that the machine has to do.
    signal.signal(signal.SIGPROF, late)
    tally = Tally()
    for data in inputs:
        tally.inputs += 1
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            tally.passed += subject.judge(data)
        except Exception:
            signal.setitimer(signal.ITIMER_PROF, 0)
            tally.failed += 1
            crashes.mkdir(parents=True, exist_ok=True)
            path = crashes / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"{path}\n{traceback.format_exc()[-1500:]}", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return tally


def _in_child(run: Callable[[], Tally]) -> tuple[Tally | None, int]:
    """Run a batch in a child, which takes a crash or a leak with it; its peak in MB."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            tally = run()
            os.write(write_end, pickle.dumps((tally.inputs, tally.passed, tally.failed)))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        raw = pipe.read()
    _, _, usage = os.wait4(child, 0)
    return (Tally(*pickle.loads(raw)) if raw else None), usage.ru_maxrss >> 10


def run(minutes: float, seed: int | None, shared: Path | None, crashes: Path) -> int:
    """Run until the time is over, first all single-bit flips of small inputs; 1 if one failed."""
    warnings.simplefilter("ignore")
    sys.addaudithook(watch)
    found = subjects(shared)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print({name: len(subject.seeds) for name, subject in found.items()}, f"{peak} MB", flush=True)
    first = random.SystemRandom().randrange(1 << 40) if seed is None else seed
    started = time.monotonic()
    totals = {name: Tally() for name in found}
    batches: Iterator[tuple[str, str, Callable[[], Iterator[bytes]]]] = _batches(found, first)
    failed = 0
    for name, what, inputs in batches:
        if time.monotonic() - started > 60 * minutes:
            break
        subject = found[name]
        tally, grown = _in_child(lambda s=subject, n=name, i=inputs: judge_all(s, n, i(), crashes))
        if tally is None or grown > peak + MEGABYTES:
            failed += 1
            print(f"CRASH or {grown} MB: {name} {what}", flush=True)
            continue
        total = totals[name]
        total.inputs += tally.inputs
        total.passed += tally.passed
        total.failed += tally.failed
        every = sum(one.inputs for one in totals.values())
        rate = every / (time.monotonic() - started)
        failed += tally.failed
        print(
            f"{every:,} inputs, {failed} disagreements, {rate:,.0f} a second; {name} {what}: "
            f"{tally.inputs:,}, {tally.passed:,} passed",
            flush=True,
        )
    for name, total in totals.items():
        print(f"{name}: {total.inputs:,} inputs, {total.passed:,} passed, {total.failed} failed")
    return 1 if failed else 0


def _batches(
    found: dict[str, Subject], first: int
) -> Iterator[tuple[str, str, Callable[[], Iterator[bytes]]]]:
    for name, subject in found.items():
        for number, data in enumerate(sorted(subject.seeds, key=len)[:1]):
            yield name, f"bit flips of seed {number}", lambda d=data: flips(d)
    number = first
    while True:
        for name, subject in found.items():
            yield name, f"seed {number}", lambda s=subject, n=number: mutants(s, n, s.batch)
            number += 1
