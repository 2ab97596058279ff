"""Pickles written: CPython reads them to the same value and writes the same bytes."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpctl import limits
from dcpctl.errors import Refused
from dcpctl.formats.pickles import policy, vm
from dcpctl.formats.pickles.emit import Call, Emitter, GlobalRef, Persistent, dumps
from dcpctl.formats.pickles.standins import Device, DType, Opaque, Record, Size

EDGES = [
    *[0, 1, 255, 256, 65535, 65536, -1, -128, -129, -32768, -(1 << 39), -(1 << 39) + 1],
    *[1 << 31, (1 << 31) - 1, -(1 << 31), -(1 << 31) - 1, 1 << 63, -(1 << 63), 1 << 64, 1 << 2100],
]
VALUES = [
    *[
        None,
        True,
        False,
        0.1,
        -0.0,
        math.inf,
        1 + 2j,
        "",
        "läng",
        "x" * 300,
        "\ud800",
        b"",
        b"\xff" * 300,
    ],
    *[(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], {}, {"a": 1}, set(), {7}, frozenset("b")],
    *[list(range(1000)), list(range(1001)), list(range(2001)), {n: n for n in range(2001)}],
    *[OrderedDict(), OrderedDict(a=1), OrderedDict((n, n) for n in range(2001))],
    *[bytearray(), bytearray(b"ab"), [f"name {n}" for n in range(300)], EDGES],
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)
NESTED = st.recursive(
    SCALARS,
    lambda part: st.one_of(
        st.lists(part),
        st.lists(part).map(tuple),
        st.dictionaries(st.text(), part),
        st.dictionaries(st.text(), part).map(OrderedDict),
    ),
    max_leaves=40,
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_bytes_are_those_of_cpython(value):
    assert dumps(value) == pickle.dumps(value, 2)


@pytest.mark.parametrize("protocol", [2, 4])
@given(value=NESTED)
def test_cpython_reads_the_same_value(protocol, value):
    found = pickle.loads(dumps(value, protocol=protocol))
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize("protocol", [2, 4])
@given(value=NESTED)
def test_reads_what_it_writes(protocol, value):
    found = vm.load(dumps(value, protocol=protocol), policy.VALUES, subject="it")
    assert found == value


@pytest.mark.parametrize("protocol", [2, 4])
def test_stand_ins_come_back(protocol):
    value = [
        *[Size((2, 3)), Size(()), DType("bfloat16"), Device("cpu"), Device("cuda:1")],
        Record("torch.distributed.checkpoint.metadata.StorageMeta", {"save_id": "x"}),
    ]
    found = vm.load(dumps(value, protocol=protocol), policy.VALUES, subject="it")
    assert found[:5] == value[:5]
    assert [type(part) for part in found] == [type(part) for part in value]
    assert (found[5].type, found[5].fields) == (value[5].type, value[5].fields)


def test_torch_reads_stand_ins(torch):
    value = [Size((2, 3)), DType("bfloat16"), Device("cuda:1"), GlobalRef("torch.strided")]
    found = pickle.loads(dumps(value))
    assert found == [torch.Size((2, 3)), torch.bfloat16, torch.device("cuda:1"), torch.strided]


def test_what_is_shared_stays_shared():
    part, pair = [1], ("a",)
    both = {"list": [part, part], "tuple": [pair, pair]}
    found = pickle.loads(dumps(both))
    assert found["list"][0] is found["list"][1]
    assert found["tuple"][0] is found["tuple"][1]
    assert found == both


def test_a_list_in_itself():
    value: list[object] = []
    value.append(value)
    found = pickle.loads(dumps(value))
    assert found[0] is found


def test_equal_strings_are_written_once():
    one, other = "na" + str(1), "na" + str(1)
    assert one is not other
    assert dumps([one, other]) == dumps([one, one])


def test_sets_are_written_alike_in_every_process():
    script = (
        "from dcpctl.formats.pickles.emit import dumps; print(dumps({'a', 'b', 'c', 1, 2}).hex())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert len(set(runs)) == 1


def test_frames_hold_whole_opcodes():
    data = dumps([f"a string of some length {n}" for n in range(20_000)], protocol=4)
    position, frames = 2, 0
    while data[position] == 0x95:
        position += 9 + int.from_bytes(data[position + 1 : position + 9], "little")
        frames += 1
        if position == len(data):
            break
    assert position == len(data)
    assert frames > 5
    assert len(pickle.loads(data)) == 20_000


def test_persistent_ids_and_replacements():
    class Other:
        pass

    other = Other()
    data = dumps([other, other], reduce=lambda _: Call("builtins.complex", (1.0, 2.0)))
    first, second = pickle.loads(data)
    assert first == 1 + 2j
    assert first is second
    seen = []
    data = dumps(Persistent(("storage", 1)))
    assert vm.load(data, policy.VALUES, subject="it", persistent=seen.append) is None
    assert seen == [("storage", 1)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Opaque("lib.Scheduler"), "an object of 'lib.Scheduler' cannot be written"),
        ({"a": [object()]}, "an object of 'builtins.object' cannot be written"),
        (GlobalRef("nothing"), "'nothing' is no name of a class or function"),
        (GlobalRef("os.system\ncmd"), "is no name of a class or function"),
    ],
)
def test_refuses_by_name(value, message):
    with pytest.raises(Refused, match=message):
        dumps(value)


def test_refuses_what_could_not_be_read_back():
    deep: list[object] = []
    for _ in range(limits.PICKLE_DEPTH + 50):
        deep = [deep]
    with pytest.raises(Refused, match="levels deep"):
        dumps(deep)


def test_knows_two_protocols():
    with pytest.raises(ValueError, match="protocol 3"):
        Emitter(3)
