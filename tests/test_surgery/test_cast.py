from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dcpctl.errors import NothingSelected, Refused, UsageError
from dcpctl.model.draft import Draft
from dcpctl.surgery.cast import Cast, cast, dtype_named, loss
from tests.test_surgery import oracle


def casts(draft: Draft, *globs: str, dtype: str = "bfloat16") -> set[str]:
    outcome = cast(draft, dtype, globs, allow_lossy=True)
    return {change.fqn for change in outcome.changes}


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("bf16", "bfloat16"),
        ("BF16", "bfloat16"),
        ("torch.float16", "float16"),
        ("half", "float16"),
        ("fp32", "float32"),
        ("float8_e5m2", "float8_e5m2"),
    ],
)
def test_names_of_dtypes(text: str, dtype: str) -> None:
    assert dtype_named(text) == dtype


@pytest.mark.parametrize("text", ["int8", "bool", "complex64", "bfloat", ""])
def test_what_is_no_floating_point_dtype(text: str) -> None:
    with pytest.raises(UsageError, match="is no floating-point dtype"):
        dtype_named(text)


def test_the_model_is_meant_by_default(healthy: Draft) -> None:
    found = casts(healthy)
    assert found == {fqn for fqn in healthy.entries if fqn.startswith("model.")}
    assert casts(healthy, "*") == found, "moments and step are not named"


def test_moments_and_step_have_to_be_named(healthy: Draft) -> None:
    assert all(fqn.endswith(".exp_avg") for fqn in casts(healthy, "*.exp_avg"))
    both = casts(healthy, "optimizer.*")
    assert len(both) == 42 and not any(fqn.endswith(".step") for fqn in both)
    assert len(casts(healthy, "optimizer.*.step")) == 21
    assert len(casts(healthy, "*.step")) == 21
    mixed = casts(healthy, "*norm*")
    assert mixed and all(fqn.startswith("model.") for fqn in mixed)


def test_loss_is_refused_and_told(healthy: Draft) -> None:
    words = "float32 to bfloat16 keeps 8 of 24 significant bits"
    with pytest.raises(Refused, match=words) as caught:
        cast(healthy, "bfloat16")
    assert caught.value.hint == "--allow-lossy casts all the same"
    assert words in cast(healthy, "bfloat16", allow_lossy=True).warnings[0]
    assert not cast(healthy, "float64").warnings


@pytest.mark.parametrize(
    ("old", "new", "keeps"),
    [
        ("bfloat16", "float32", True),
        ("float16", "float32", True),
        ("float32", "float64", True),
        ("float8_e4m3fn", "bfloat16", True),
        ("float8_e5m2", "float16", True),
        ("float32", "bfloat16", False),
        ("float16", "bfloat16", False),
        ("bfloat16", "float16", False),
        ("float64", "float32", False),
        ("float16", "float8_e5m2", False),
    ],
)
def test_what_keeps_every_number(old: str, new: str, keeps: bool) -> None:
    assert (loss(old, new) == "") is keeps


def test_refusals(healthy: Draft, samples: Path, opened: Callable[[Path], Draft]) -> None:
    with pytest.raises(NothingSelected, match="is float32 already"):
        cast(healthy, "float32")
    with pytest.raises(NothingSelected, match="no key matches"):
        cast(healthy, "float64", ["nothing.*"])
    with pytest.raises(NothingSelected, match="nothing selected is a floating-point tensor"):
        cast(healthy, "float64", ["train_state"])


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_torch_casts_alike(samples: Path, tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    import torch.distributed.checkpoint as dcp

    source = samples / "fsdp_tp_2x2"
    globs = ("model.layers.0", "optimizer.*.exp_avg")
    target = oracle.made(source, tmp_path / "made", Cast(dtype, globs, allow_lossy=True))
    found, before = oracle.by_torch(target), oracle.by_torch(source)
    reader = dcp.FileSystemReader(source).read_metadata().state_dict_metadata
    changed = {fqn for fqn in before if found[fqn] != before[fqn]}
    assert changed == {
        fqn for fqn in before if fqn.startswith("model.layers.0.") or fqn.endswith(".exp_avg")
    }
    state = {f: torch.empty(reader[f].size, dtype=reader[f].properties.dtype) for f in changed}
    oracle.load(state, source)
    for fqn, tensor in state.items():
        assert found[fqn] == oracle.describe(tensor.to(getattr(torch, dtype))), fqn
