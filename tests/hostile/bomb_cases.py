"""`.metadata` that asks for time or memory out of proportion to its size."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.hostile.draft import healthy
from tests.hostile.opcodes import PROTO, call, doubled, in_front, instead, name, text
from tests.hostile.registry import case

METADATA = "torch.distributed.checkpoint.metadata:Metadata"
MANY = 1_000_000


def _with_value(directory: Path, value: object) -> None:
    """Write the healthy draft with one more attribute, as the pickler writes it."""
    draft = healthy()
    draft.fields["mcore_data"] = value
    draft.write(directory)


@case(opens="malformed-metadata")
def list_in_itself(directory: Path) -> None:
    instead(directory, b"]q\x00h\x00a")


@case()
def list_in_itself_as_a_field(directory: Path) -> None:
    value: list[object] = []
    value.append(value)
    _with_value(directory, value)


@case()
def dict_in_itself_as_a_field(directory: Path) -> None:
    value: dict[str, object] = {}
    value["self"] = value
    _with_value(directory, value)


@case(opens="malformed-pickle")
def list_in_itself_as_a_key(directory: Path) -> None:
    in_front(directory, b"}]\x94h\x00aNs")


@case(opens="malformed-pickle")
def state_dict_holds_itself(directory: Path) -> None:
    fields = text("state_dict_metadata") + b"}q\x01" + text("w") + b"h\x01s"
    instead(directory, name(METADATA) + b")\x81}" + fields + b"sb")


@case(opens="limit-exceeded")
def million_deep_lists(directory: Path) -> None:
    in_front(directory, b"]" * MANY + b"a" * (MANY - 1))


@case(opens="limit-exceeded")
def million_deep_tuples(directory: Path) -> None:
    in_front(directory, b"N" + b"\x85" * MANY)


@case(opens="limit-exceeded")
def million_deep_dicts(directory: Path) -> None:
    in_front(directory, b"}K\x01" * MANY + b"N" + b"s" * MANY)


@case(opens="limit-exceeded")
def million_marks(directory: Path) -> None:
    in_front(directory, b"(" * MANY)


@case(opens="limit-exceeded")
def million_dups(directory: Path) -> None:
    in_front(directory, b"]" + b"2" * MANY)


@case(opens="limit-exceeded")
def ten_million_nones(directory: Path) -> None:
    in_front(directory, b"(" + b"N" * (10 * MANY) + b"1", pop=False)


@case(opens="limit-exceeded")
def ten_million_memo_entries(directory: Path) -> None:
    in_front(directory, b"N" + b"\x94" * (10 * MANY))


@case(opens="limit-exceeded")
def million_sets(directory: Path) -> None:
    in_front(directory, b"(" + b"\x8f" * MANY + b"1", pop=False)


@case(opens="malformed-pickle")
def memo_index_of_four_billion(directory: Path) -> None:
    """No pickler numbers so, and it is no reason to allocate four billion entries."""
    in_front(directory, b"Nr\xff\xff\xff\xff")


@case(opens="malformed-pickle")
def memo_index_in_text_of_100_digits(directory: Path) -> None:
    in_front(directory, b"Np" + b"9" * 100 + b"\n")


@case(opens="malformed-pickle")
def memo_index_in_text_of_a_million_digits(directory: Path) -> None:
    in_front(directory, b"Np" + b"9" * MANY + b"\n")


@case(opens="malformed-pickle")
def negative_memo_index(directory: Path) -> None:
    in_front(directory, b"Np-1\n")


@case(opens="malformed-pickle")
def get_of_nothing(directory: Path) -> None:
    in_front(directory, b"j\xff\xff\xff\xff")


@case(opens="malformed-pickle")
def forward_reference(directory: Path) -> None:
    in_front(directory, b"h\x05N\x94")


@case(opens="malformed-pickle")
def tuple_hash_bomb(directory: Path) -> None:
    """A tuple that repeats a tuple 60 levels deep has 2^60 leaves to hash."""
    tuples = b"".join(b"h%c" % n + b"\x86\x94" for n in range(60))
    in_front(directory, b"}K\x01\x94" + tuples + b"Ns")


@case(opens="malformed-pickle")
def frozenset_hash_bomb(directory: Path) -> None:
    tuples = b"".join(b"h%c" % n + b"\x86\x94" for n in range(60))
    in_front(directory, b"(K\x01\x94" + tuples + b"\x91")


@case(opens="malformed-pickle")
def device_of_doubled_lists(directory: Path) -> None:
    """Written out, the list has 2^40 parts."""
    in_front(directory, name("torch:device") + doubled(40, 100) + b"\x85R")


@case(opens="malformed-pickle")
def device_of_deep_lists(directory: Path) -> None:
    deep = b"]" * 5000 + b"a" * 4999
    in_front(directory, name("torch:device") + deep + b"\x85R")


@case()
def doubled_lists_as_a_field(directory: Path) -> None:
    value: list[object] = []
    for _ in range(40):
        value = [value, value]
    _with_value(directory, value)


@case(opens="malformed-pickle")
def long_tuple_as_a_key_again_and_again(directory: Path) -> None:
    big = b"(" + b"K\x01" * 500_000 + b"tq\x01\x85q\x02"
    in_front(directory, b"}" + big + b"0" + b"h\x02Ns" * 50_000)


@case(opens="malformed-pickle")
def integers_of_one_hash_as_keys(directory: Path) -> None:
    """All are 0 modulo 2^61 - 1, which is Python's hash; 50,000 of them take minutes."""
    numbers = (n * ((1 << 61) - 1) for n in range(50_000))
    keys = b"".join(b"\x8a\x0b" + n.to_bytes(11, "little") + b"N" for n in numbers)
    in_front(directory, b"}(" + keys + b"u")


@case(opens="malformed-pickle")
def integers_of_one_hash_as_members(directory: Path) -> None:
    numbers = (n * ((1 << 61) - 1) for n in range(50_000))
    members = b"".join(b"\x8a\x0b" + n.to_bytes(11, "little") for n in numbers)
    in_front(directory, name("builtins:set") + b"](" + members + b"e\x85R")


@case(opens="limit-exceeded")
def hundred_thousand_tuples_as_keys(directory: Path) -> None:
    """The hashes of tuples of numbers can be made to collide too."""
    keys = b"".join(b"J" + struct.pack("<i", n) + b"K\x01\x86N" for n in range(100_000))
    in_front(directory, b"}(" + keys + b"u")


@case(opens="limit-exceeded")
def encode_one_text_again_and_again(directory: Path) -> None:
    big = text("x" * MANY) + text("latin1") + b"\x86q\x01"
    opcodes = name("_codecs:encode") + b"q\x7f0" + big + b"0"
    in_front(directory, opcodes + b"(" + b"h\x7fh\x01R" * 20_000 + b"1", pop=False)


@case(opens="limit-exceeded")
def size_of_one_tuple_again_and_again(directory: Path) -> None:
    big = b"(" + b"K\x01" * 900_000 + b"tq\x01\x85q\x02"
    opcodes = name("torch:Size") + b"q\x7f0" + big + b"0"
    in_front(directory, opcodes + b"(" + b"h\x7fh\x02R" * 50_000 + b"1", pop=False)


@case(opens="limit-exceeded")
def build_with_one_state_again_and_again(directory: Path) -> None:
    """20,000 times 100,000 attributes."""
    keys = b"".join(text(f"k{n}") + b"N" for n in range(100_000))
    state = b"}(" + keys + b"uq\x01"
    again = b"h\x01b" * 20_000
    in_front(directory, state + b"0" + name(METADATA) + b")\x81" + again)


@case(opens="limit-exceeded")
def ordered_dict_of_one_list_again_and_again(directory: Path) -> None:
    pairs = b"](" + b"".join(text(f"k{n}") + b"N\x86" for n in range(50_000)) + b"e\x85q\x01"
    opcodes = name("collections:OrderedDict") + b"q\x7f0" + pairs + b"0"
    in_front(directory, opcodes + b"(" + b"h\x7fh\x01R" * 20_000 + b"1", pop=False)


@case(opens="limit-exceeded")
def long4_of_a_megabyte(directory: Path) -> None:
    in_front(directory, b"\x8b" + struct.pack("<I", MANY) + b"\x01" * MANY)


@case(opens="limit-exceeded")
def long4_of_four_gigabytes(directory: Path) -> None:
    in_front(directory, b"\x8b\xff\xff\xff\xff")


@case(opens="limit-exceeded")
def integer_of_a_million_digits(directory: Path) -> None:
    in_front(directory, b"I" + b"9" * MANY + b"\n")


@case(opens="limit-exceeded")
def long_of_a_million_digits(directory: Path) -> None:
    in_front(directory, b"L" + b"9" * MANY + b"L\n")


@case(opens="malformed-pickle")
def frame_of_2_to_the_63(directory: Path) -> None:
    in_front(directory, b"\x95" + struct.pack("<Q", 1 << 63) + b"N")


@case(opens="malformed-pickle")
def text_of_2_to_the_63(directory: Path) -> None:
    in_front(directory, b"\x8d" + struct.pack("<Q", 1 << 63))


@case(opens="malformed-pickle")
def bytes_of_2_to_the_64(directory: Path) -> None:
    in_front(directory, b"\x8e" + b"\xff" * 8)


@case(opens="malformed-pickle")
def bytearray_of_2_to_the_40(directory: Path) -> None:
    in_front(directory, b"\x96" + struct.pack("<Q", 1 << 40))


@case(opens="malformed-pickle")
def gigabyte_of_nothing(directory: Path) -> None:
    healthy().write(directory, metadata=b"")
    with (directory / ".metadata").open("r+b") as file:
        file.truncate(1 << 30)


@case(opens="malformed-pickle")
def gigabyte_of_nothing_behind_a_header(directory: Path) -> None:
    healthy().write(directory, metadata=PROTO)
    with (directory / ".metadata").open("r+b") as file:
        file.truncate(1 << 30)


@case(opens="malformed-pickle")
def gigabyte_of_nothing_between_header_and_stop(directory: Path) -> None:
    healthy().write(directory, metadata=PROTO)
    with (directory / ".metadata").open("r+b") as file:
        file.seek((1 << 30) - 1)
        file.write(b".")


@case(opens="limit-exceeded")
def gigabyte_in_one_text(directory: Path) -> None:
    healthy().write(directory, metadata=PROTO + b"\x8d" + struct.pack("<Q", (1 << 30) - 100))
    with (directory / ".metadata").open("r+b") as file:
        file.seek(1 << 30)
        file.write(b".")


@case(opens="limit-exceeded")
def metadata_of_a_terabyte(directory: Path) -> None:
    healthy().write(directory, metadata=b"")
    with (directory / ".metadata").open("r+b") as file:
        file.truncate(1 << 40)


@case(opens="malformed-pickle")
def empty_metadata(directory: Path) -> None:
    healthy().write(directory, metadata=b"")


def _truncated(sixteenths: int):
    def make(directory: Path) -> None:
        healthy().write(directory)
        path = directory / ".metadata"
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * sixteenths // 16])

    make.__name__ = f"metadata_cut_at_{sixteenths}_of_16"
    return make


for _sixteenths in range(1, 16):
    case(opens="malformed-pickle")(_truncated(_sixteenths))


@case(opens="malformed-pickle")
def metadata_without_its_last_byte(directory: Path) -> None:
    healthy().write(directory)
    path = directory / ".metadata"
    path.write_bytes(path.read_bytes()[:-1])


@case(opens="limit-exceeded")
def million_calls_of_a_path(directory: Path) -> None:
    opcodes = name("pathlib:PosixPath") + b"q\x7f0" + text("p" * 100_000) + b"\x85q\x010"
    in_front(directory, opcodes + b"(" + b"h\x7fh\x01R" * 100_000 + b"1", pop=False)


@case(opens="malformed-pickle")
def path_of_a_list(directory: Path) -> None:
    in_front(directory, call("pathlib:PosixPath", b"]"))
