"""The table of torch's names: what of torch the decoders know is in it, and what is not is told."""

from __future__ import annotations

import pytest

from dcpctl.errors import MalformedPickle
from dcpctl.formats.dtypes import DTYPES
from dcpctl.formats.pickles import policy, vm
from dcpctl.formats.pickles.torch_names import lacks, releases_with, torch_names
from tests.test_formats.wrappers import _global as name
from tests.test_formats.wrappers import text

FORMS = (policy.METADATA, policy.VALUES)


def test_every_dtype_that_is_decoded_is_torchs() -> None:
    assert DTYPES.keys() <= torch_names().dtypes.keys()


@pytest.mark.parametrize("known", FORMS, ids=("metadata", "values"))
def test_every_name_of_torch_that_is_known_is_torchs(known: policy.Policy) -> None:
    """A class in another module than torch's own is a class that torch does not have."""
    missing = [path for path in known.table if path.startswith("torch.") and lacks(path, None)]
    assert not missing


def test_classes_that_no_release_has_in_that_module_are_unknown() -> None:
    old = "torch.distributed._shard.checkpoint.metadata."
    assert f"{old}MetadataIndex" in policy.METADATA.table
    assert f"{old}StorageMeta" not in policy.METADATA.table


@pytest.mark.torch
def test_what_the_installed_torch_has_is_in_the_table() -> None:
    import sys

    import torch
    import torch.distributed.checkpoint

    release = torch.__version__.split("+")[0]
    if release not in torch_names().releases:
        pytest.skip(f"torch {release} was not read")
    lost = [
        f"{place}.{known}"
        for place, module in sorted(sys.modules.items())
        if place == "torch" or place.startswith("torch.")
        for known in dir(module)
        if known.isidentifier() and release not in (releases_with(f"{place}.{known}") or (release,))
    ]
    assert not lost
    allowed = torch._weights_only_unpickler._get_allowed_globals()
    # The old classes by dtype and device are made at run time; no pickle needs them.
    classes = (*torch._tensor_classes, *torch._storage_classes)
    old = {f"{kind.__module__}.{kind.__name__}" for kind in classes}
    assert allowed.keys() - old <= torch_names().safe.keys()


@pytest.mark.parametrize(
    ("pickle", "says"),
    [
        (name("torch.serialization._get_layout") + b"(" + text("torch.dense") + b"tR", "no layout"),
        (name("torch.serialization._get_layout") + b"()tR", "1 of them|arguments"),
        (name("torch._utils._rebuild_parameter") + b")R", "0 of them, it takes 3"),
        (name("torch._utils._rebuild_qtensor") + b"(NNNNNtR", "5 of them, it takes 7"),
    ],
)
def test_arguments_that_torch_does_not_take(pickle: bytes, says: str) -> None:
    with pytest.raises(MalformedPickle, match=says):
        vm.load(b"\x80\x02" + pickle + b".", policy.VALUES, subject="test")


@pytest.mark.parametrize("value", [0, 7, True, None])
def test_an_enum_has_only_its_members(value: object) -> None:
    import pickle

    number = pickle.dumps(value, 2)[2:-1]
    data = b"\x80\x02" + name("torch.distributed.checkpoint.planner.WriteItemType")
    with pytest.raises(MalformedPickle, match="no such member"):
        vm.load(data + number + b"\x85R.", policy.METADATA, subject="test")


def test_a_tensor_refers_to_nothing_that_weights_only_refuses() -> None:
    """Attributes of a Parameter are dropped here, and their globals refused by torch."""
    from dcpctl.errors import Unloadable
    from tests.test_formats.archives import item_of
    from tests.test_formats.wrappers import plain, wrapper, wrapper_zip

    kind = "torch.nn.parameter.Parameter"
    delta = name("datetime.timedelta") + b"(K\x01K\x00K\x00tR"
    tensor = plain((3,), "0", "FloatStorage")
    pickles = [wrapper(kind, None, tensor, mark=part) for part in (b"K\x07", delta)]
    assert item_of(wrapper_zip(pickles[0], bytes(12)).build()).tensor().shape == (3,)
    with pytest.raises(Unloadable, match=r"refers to 'datetime.timedelta'"):
        item_of(wrapper_zip(pickles[1], bytes(12)).build()).tensor()
