"""`.metadata` that is a well-formed pickle of lies about shapes, chunks and storage items."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from tests.hostile import fake_torch as ft
from tests.hostile.draft import Draft, chunk, healthy
from tests.hostile.fake_torch import dumps
from tests.hostile.registry import case


def _with_metadata(directory: Path, **fields: object) -> None:
    draft = healthy()
    metadata = draft.metadata()
    metadata.__dict__.update(fields)
    draft.write(directory, metadata=dumps(metadata))


@case(opens="malformed-metadata", subject="state_dict_metadata")
def state_dict_is_a_list(directory: Path) -> None:
    _with_metadata(directory, state_dict_metadata=["model.weight"])


@case(opens="malformed-metadata", subject="storage_data")
def storage_data_is_a_list(directory: Path) -> None:
    _with_metadata(directory, storage_data=[1, 2])


@case()
def planner_data_is_a_number(directory: Path) -> None:
    _with_metadata(directory, planner_data=7)


@case(opens="malformed-metadata", subject="'model.weight' a int")
def planner_data_of_numbers(directory: Path) -> None:
    _with_metadata(directory, planner_data={"model.bias": ("model", "bias"), "model.weight": 3})


@case()
def planner_data_of_a_planner_of_ones_own(directory: Path) -> None:
    """torch looks up its own keys, of which there are none."""
    _with_metadata(directory, planner_data={1: 2, "tokens": 3})


def _paths(label: str, **paths: tuple[object, ...]) -> None:
    """Register paths of `bias`, `weight` and `step` that torch cannot make one state dict of."""

    def write(directory: Path) -> None:
        names = {"bias": "model.bias", "weight": "model.weight", "step": "step"}
        planner = {"model.bias": ("b",), "model.weight": ("w",), "step": ("s",)}
        planner |= {names[key]: path for key, path in paths.items()}
        _with_metadata(directory, planner_data=planner)

    write.__name__ = f"planner_{label}"
    case(opens="malformed-metadata", subject="planner data of")(write)


_paths("path_to_one_place", bias=("model", "w"), weight=("model", "w"))
_paths("path_through_another_key", bias=("model",), weight=("model", "w"))
_paths("index_of_a_billion", bias=("model", 1 << 30))
_paths("index_below_zero", bias=("model", -1))
_paths("list_that_is_a_dict", bias=("model", 0), weight=("model", "w"))
_paths("empty_path", bias=())


@case(opens="malformed-metadata")
def key_is_a_number(directory: Path) -> None:
    draft = healthy()
    draft.entries[7] = draft.entries["model.bias"]
    draft.write(directory)


@case(opens="malformed-metadata")
def entry_is_a_number(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"] = 7
    draft.write(directory)


@case(opens="malformed-metadata")
def entry_is_a_storage_info(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"] = draft.item("model.bias")
    draft.write(directory)


@case(opens="malformed-metadata")
def chunks_is_a_number(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].chunks = 7
    draft.write(directory)


@case(opens="malformed-metadata")
def chunk_is_a_string(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].chunks = ["all of it"]
    draft.write(directory)


@case(opens="malformed-metadata")
def properties_is_a_string(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].properties = "float32"
    draft.write(directory)


@case(opens="malformed-metadata")
def storage_item_without_a_path(directory: Path) -> None:
    draft = healthy()
    del draft.item("model.bias").relative_path
    draft.write(directory)


@case(opens="malformed-metadata")
def storage_item_with_a_path_that_is_no_text(directory: Path) -> None:
    draft = healthy()
    draft.item("model.bias").relative_path = PurePosixPath("__0_0.distcp")
    draft.write(directory)


@case(opens="malformed-metadata")
def storage_items_transforms_are_a_number(directory: Path) -> None:
    draft = healthy()
    draft.item("model.bias").transform_descriptors = 7
    draft.write(directory)


def _chunk_of(directory: Path, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    """Let the bias of 3 elements have this one chunk, with its storage item."""
    draft = healthy()
    made = chunk(offsets, sizes)
    draft.entries["model.bias"].chunks = [made]
    _move_index(draft, "model.bias", made.offsets)
    draft.write(directory)


def _move_index(draft: Draft, fqn: str, offsets: object) -> None:
    for index in draft.storage:
        if index.fqn == fqn and hasattr(index, "offset"):
            index.offset = offsets


@case(reads="malformed-item", finding="DCP101")
def chunk_at_a_negative_offset(directory: Path) -> None:
    _chunk_of(directory, (-1,), (3,))


@case(reads="malformed-item", finding="DCP101")
def chunk_at_2_to_the_62(directory: Path) -> None:
    _chunk_of(directory, (1 << 62,), (3,))


@case(opens="malformed-metadata")
def chunk_at_2_to_the_63(directory: Path) -> None:
    _chunk_of(directory, (1 << 63,), (3,))


@case(reads="malformed-item", finding="DCP101")
def chunk_whose_end_overflows(directory: Path) -> None:
    _chunk_of(directory, ((1 << 63) - 2,), (3,))


@case(reads="malformed-item", finding="DCP101")
def chunk_of_negative_size(directory: Path) -> None:
    _chunk_of(directory, (0,), (-3,))


@case(reads="malformed-item", finding="DCP304")
def chunk_larger_than_its_item(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((4,))
    draft.entries["model.bias"].chunks = [chunk((0,), (4,))]
    draft.write(directory)


@case(reads="malformed-item", finding="DCP106")
def tensor_of_2_to_the_60_elements(directory: Path) -> None:
    """Chunk and shape agree with each other, and with no file."""
    draft = healthy()
    shape = (1 << 40, 1 << 20)
    draft.entries["model.bias"].size = ft.Size(shape)
    draft.entries["model.bias"].chunks = [chunk((0, 0), shape)]
    _move_index(draft, "model.bias", ft.Size((0, 0)))
    draft.write(directory)


@case(reads="malformed-item", finding="DCP106")
def tensor_whose_bytes_overflow(directory: Path) -> None:
    draft = healthy()
    shape = (1 << 62, 1 << 62, 16)
    draft.entries["model.bias"].size = ft.Size(shape)
    draft.entries["model.bias"].chunks = [chunk((0, 0, 0), shape)]
    _move_index(draft, "model.bias", ft.Size((0, 0, 0)))
    draft.write(directory)


@case(reads="limit-exceeded", finding="DCP109")
def empty_tensor_of_huge_dims(directory: Path) -> None:
    """It has no element, and NumPy makes no array of that shape all the same."""
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((1 << 62, 1 << 62, 0))
    draft.entries["model.bias"].chunks = []
    draft.write(directory)


@case(reads="malformed-metadata", finding="DCP105")
def tensor_of_a_negative_size(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((-3,))
    draft.write(directory)


@case(reads="malformed-metadata", finding="DCP105")
def tensor_with_two_negative_sizes(directory: Path) -> None:
    """Their product is positive."""
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((-3, -1))
    draft.write(directory)


@case(reads="malformed-metadata", finding="DCP105")
def chunk_of_another_rank(directory: Path) -> None:
    _chunk_of(directory, (0, 0), (3, 1))


@case(reads="malformed-metadata", finding="DCP105")
def chunk_of_no_dims(directory: Path) -> None:
    _chunk_of(directory, (), ())


@case(opens="malformed-metadata")
def chunks_of_two_ranks(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.weight"].chunks[1] = chunk((2,), (2,))
    draft.write(directory)


@case(opens="malformed-metadata")
def chunk_whose_sizes_have_another_rank(directory: Path) -> None:
    _chunk_of(directory, (0,), (3, 1))


@case(reads="malformed-metadata", finding="DCP105")
def tensor_of_64_dims(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((1,) * 63 + (4,))
    draft.write(directory)


@case(opens="malformed-metadata")
def tensor_of_65_dims(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((1,) * 65)
    draft.write(directory)


@case(opens="malformed-metadata")
def size_of_floats(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = (3.0,)
    draft.write(directory)


@case(opens="malformed-metadata")
def size_of_bools(directory: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = [True]
    draft.write(directory)


@case(reads="malformed-item", finding="DCP103")
def hole_between_chunks(directory: Path) -> None:
    draft = healthy()
    del draft.entries["model.weight"].chunks[1]
    draft.write(directory)


@case(finding="DCP104")
def same_chunk_twice(directory: Path) -> None:
    draft = healthy()
    chunks = draft.entries["model.weight"].chunks
    chunks.append(chunks[0])
    draft.write(directory)


@case(reads="missing-file", finding="DCP108")
def chunk_without_a_storage_item(directory: Path) -> None:
    draft = healthy()
    draft.storage = {i: info for i, info in draft.storage.items() if i.fqn != "model.bias"}
    draft.tensor("filler", (64,))  # so that the sum of all items is not what fails
    draft.write(directory)


@case(reads="missing-file", finding="DCP108")
def bytes_entry_without_a_storage_item(directory: Path) -> None:
    draft = healthy()
    draft.storage = {i: info for i, info in draft.storage.items() if i.fqn != "step"}
    draft.write(directory)


@case(finding="DCP205")
def storage_item_of_an_unknown_key(directory: Path) -> None:
    draft = healthy()
    draft.storage[ft.MetadataIndex(fqn="ghost", offset=ft.Size((0,)), index=0)] = draft.item("step")
    draft.write(directory)


def _item_of(directory: Path, **fields: object) -> None:
    draft = healthy()
    draft.item("model.bias").__dict__.update(fields)
    draft.write(directory)


@case(reads="malformed-item", finding="DCP204")
def item_at_a_negative_offset(directory: Path) -> None:
    _item_of(directory, offset=-64)


@case(reads="truncated-file", finding="DCP204")
def item_at_2_to_the_62(directory: Path) -> None:
    _item_of(directory, offset=1 << 62)


@case(reads="truncated-file", finding="DCP204")
def item_whose_end_overflows(directory: Path) -> None:
    _item_of(directory, offset=(1 << 63) - 1, length=1 << 40)


@case(opens="malformed-metadata")
def item_at_2_to_the_64(directory: Path) -> None:
    _item_of(directory, offset=1 << 64)


@case(opens="malformed-metadata")
def item_at_half_a_byte(directory: Path) -> None:
    _item_of(directory, offset=0.5)


@case(reads="malformed-item", finding="DCP106")
def item_of_negative_length(directory: Path) -> None:
    _item_of(directory, length=-1)


@case(reads="malformed-item", finding="DCP106")
def item_of_no_length(directory: Path) -> None:
    _item_of(directory, length=0)


@case(reads="truncated-file", finding="DCP204")
def item_of_2_to_the_63_bytes(directory: Path) -> None:
    _item_of(directory, length=(1 << 63) - 1)


@case(reads="malformed-item", finding="DCP205")
def item_inside_another(directory: Path) -> None:
    draft = healthy()
    draft.item("model.bias").offset += 7
    draft.write(directory)


@case(reads="malformed-item", finding="DCP205")
def two_tensors_share_an_item(directory: Path) -> None:
    draft = healthy()
    first = draft.item("model.weight")
    draft.item("model.bias").__dict__.update(first.__dict__)
    draft.write(directory)


@case(reads="unknown-form", finding="DCP306")
def unknown_transform(directory: Path) -> None:
    _item_of(directory, transform_descriptors=["stream.rot13/1"])


@case(reads="malformed-item", finding="DCP305")
def zstd_that_is_none(directory: Path) -> None:
    _item_of(directory, transform_descriptors=["stream.zstd/1"])


@case(reads="malformed-item", finding="DCP305")
def huge_tensor_under_zstd(directory: Path) -> None:
    """With a transform the file says nothing about the size; 64 GiB must not be allocated."""
    import zstandard

    draft = healthy()
    shape = (1 << 34,)
    draft.entries["model.bias"].size = ft.Size(shape)
    draft.entries["model.bias"].chunks = [chunk((0,), shape)]
    draft.replace_item("model.bias", zstandard.compress(b"no archive"))
    draft.item("model.bias").transform_descriptors = ["stream.zstd/1"]
    draft.write(directory)
