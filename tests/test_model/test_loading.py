"""The prediction of a load, compared with what stock torch does."""

from __future__ import annotations

import copy
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcpctl.formats.dtypes import DTYPES
from dcpctl.model.contract import Spec, contract_of
from dcpctl.model.loading import LoadPreview, predict_load
from dcpctl.model.loading_errors import Mismatch, Release, clash
from dcpctl.model.loading_keys import asked_by
from dcpctl.model.opening import open_checkpoint

torch = pytest.importorskip("torch")
from tests.test_model import loading_cases as cases  # noqa: E402

NEWEST = torch.__version__.split("+")[0]
WEIGHT = cases.tensor((4, 3))
ADAM = {"exp_avg": cases.tensor((4, 3)), "step": cases.tensor(())}
GROUP = {"lr": 0.1, "betas": (0.9, 0.95), "params": ["w"]}
SAVED = {
    "model": {"w": WEIGHT, "b": cases.tensor((4,))},
    "optimizer": {"state": {"w": ADAM}, "param_groups": [GROUP]},
    "step": 8500,
}


def _without(state: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in keys}


def _with(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SAVED), **changes}


def _fresh(state: Any) -> Any:
    """The state dict with its tensors set to 0."""
    if isinstance(state, dict):
        return {key: _fresh(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_fresh(value) for value in state]
    return torch.zeros_like(state) if isinstance(state, torch.Tensor) else state


#: What is asked for, and the lists of the preview that it fills beside `loads`.
TABLE: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "all": (_with(), {}),
    "the seed's bug: the model alone": (
        {"model": SAVED["model"]},
        {"skipped": [k for k in cases.flat(SAVED)[0] if not k.startswith("model")]},
    ),
    "a template without optimizer state": (
        _with(optimizer={"state": {}, "param_groups": [GROUP]}),
        {"skipped": ["optimizer.state.w.exp_avg", "optimizer.state.w.step"]},
    ),
    "a key too many": (_with(ema={"w": WEIGHT}), {"missing": ["ema.w"]}),
    "two keys too many, in another order": (
        _with(zz=1, ema={"w": WEIGHT}),
        {"missing": ["ema.w", "zz"]},
    ),
    "a key of a newer release": (
        _with(
            optimizer={
                "state": {"w": ADAM},
                "param_groups": [{**GROUP, "decoupled_weight_decay": True}],
            }
        ),
        {"missing": ["optimizer.param_groups.0.decoupled_weight_decay"]},
    ),
    "another shape": (
        _with(model={"w": cases.tensor((4, 4)), "b": cases.tensor((4,))}),
        {"mismatched": ["model.w"]},
    ),
    "transposed": (
        _with(model={"w": cases.tensor((3, 4)), "b": cases.tensor((4,))}),
        {"mismatched": ["model.w"]},
    ),
    "a vector for a scalar": (
        _with(optimizer={"state": {"w": {**ADAM, "step": cases.tensor((1,))}}}),
        {
            "mismatched": ["optimizer.state.w.step"],
            "skipped": [f"optimizer.param_groups.0.{key}" for key in GROUP],
        },
    ),
    "an int step where a tensor is stored": (
        _with(
            optimizer={
                "state": {"w": {**ADAM, "step": 3}},
                "param_groups": [GROUP],
            }
        ),
        {"mismatched": ["optimizer.state.w.step"]},
    ),
    "a tensor step where an int is stored": (
        _with(step=cases.tensor(())),
        {"replaced": ["step"]},
    ),
    "other dtypes": (
        _with(model={"w": WEIGHT.to(torch.bfloat16), "b": cases.tensor((4,), torch.int64)}),
        {"converted": ["model.w", "model.b"]},
    ),
    "a mapping where an object is stored": (
        _with(step={"now": 3}),
        # A key on disk (`step`) is what 2.3 would ask for, so torch takes all for a save of 2.3.
        {
            "missing": ["optimizer.param_groups"],
            "skipped": [f"optimizer.param_groups.0.{key}" for key in GROUP],
        },
    ),
    "nothing": ({}, {"skipped": list(cases.flat(SAVED)[0])}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("saved") / "now"
    cases.save(SAVED, path)
    return path


@pytest.fixture(scope="module")
def saved_as_2_3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("saved") / "old"
    cases.save(SAVED, path, as_2_3=True)
    return path


def _lists(preview: LoadPreview) -> dict[str, list[str]]:
    """The lists of a preview that hold something, without `loads`."""
    named = {
        "missing": preview.missing,
        "skipped": preview.skipped,
        "unplaced": preview.unplaced,
        **{
            name: tuple(pair.fqn for pair in getattr(preview, name))
            for name in ("mismatched", "converted", "cut", "replaced")
        },
    }
    return {name: list(fqns) for name, fqns in named.items() if fqns}


def _check(asked: dict[str, Any], path: Path, **options: Any) -> LoadPreview:
    """See that torch raises what was predicted, or changes exactly what was predicted."""
    partial = {"allow_partial_load": True} if options.get("allow_partial_load") else {}
    asked = _fresh(asked)
    preview = cases.predict(asked, path, torch=NEWEST, **options)
    before = copy.deepcopy(asked)
    outcome = cases.load(asked, path, **partial)
    assert (outcome.kind, outcome.text.split("\n")[0]) == (
        (preview.error.kind, preview.error.text) if preview.error else ("", "")
    )
    assert preview.raises == bool(outcome.kind)
    assert preview.error_text == outcome.text.split("\n")[0]
    if not preview.raises:
        _check_contents(preview, before, outcome.state, path)
    return preview


def _check_contents(preview: LoadPreview, before: Any, state: Any, path: Path) -> None:
    leaves, _paths = cases.flat(state)
    old_leaves, _paths = cases.flat(before)
    replaced = {pair.fqn for pair in preview.replaced}
    with open_checkpoint(path) as checkpoint:
        for fqn, leaf in leaves.items():
            was = old_leaves.get(fqn)
            if fqn in replaced:
                assert isinstance(was, torch.Tensor) and not isinstance(leaf, torch.Tensor)
            elif isinstance(leaf, torch.Tensor) and fqn in preview.loads:
                stored = checkpoint[fqn].torch()
                assert leaf.dtype == was.dtype
                assert torch.equal(leaf, stored.to(leaf.dtype))
            elif isinstance(leaf, torch.Tensor):
                assert torch.equal(leaf, was), f"{fqn} was not to be changed"


@pytest.mark.parametrize("name", TABLE)
def test_the_prediction_is_what_torch_does(name: str, saved: Path) -> None:
    asked, lists = TABLE[name]
    preview = _check(asked, saved)
    assert _lists(preview) == lists
    found = {*preview.loads, *preview.missing, *(pair.fqn for pair in preview.mismatched)}
    assert preview.old_form or found == set(cases.flat(asked)[0])


@pytest.mark.parametrize("name", TABLE)
def test_partial_loads_pass_over_missing_keys_only(name: str, saved: Path) -> None:
    asked, lists = TABLE[name]
    preview = _check(asked, saved, allow_partial_load=True)
    assert preview.raises == ("mismatched" in lists)


@pytest.mark.parametrize("name", TABLE)
def test_old_pickled_groups_load_through_torchs_fallback(name: str, saved_as_2_3: Path) -> None:
    asked, _lists_of = TABLE[name]
    _check(asked, saved_as_2_3)


def test_the_fallback_asks_for_whole_groups(saved_as_2_3: Path) -> None:
    preview = _check(SAVED, saved_as_2_3)
    assert preview.old_form
    assert "optimizer.param_groups" in preview.loads
    assert not preview.raises


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_state_dicts(random: Random) -> None:
    saved = cases.random_state(random, 1)
    near = random.random() < 0.8
    asked = cases.changed(random, saved) if near else cases.random_state(random, 0)
    old = random.random() < 0.3
    try:
        cases.flat(saved), cases.flat(asked)
    except ValueError:
        return  # a dotted key and a path that spell the same, which torch refuses
    with tempfile.TemporaryDirectory() as name:
        cases.save(saved, Path(name) / "saved", as_2_3=old)
        _check(asked, Path(name) / "saved", allow_partial_load=random.random() < 0.2)


# -- the seed's bug -------------------------------------------------------------------------------


def test_an_optimizer_left_on_disk_stands_out(saved: Path) -> None:
    with open_checkpoint(saved) as checkpoint:
        preview = predict_load(cases.specs({"model": SAVED["model"]}), checkpoint)
    assert not preview.raises
    left = preview.skipped_optimizer
    assert left is not None
    assert left.whole
    assert left.parameters == 1
    assert left.fqns == tuple(fqn for fqn in preview.skipped if fqn.startswith("optimizer."))
    assert left.nbytes == 4 * 12 + 4


def test_param_groups_alone_do_not_make_an_optimizer(saved: Path) -> None:
    asked = _with(optimizer={"state": {}, "param_groups": [GROUP]})
    with open_checkpoint(saved) as checkpoint:
        left = predict_load(cases.specs(asked), checkpoint).skipped_optimizer
    assert left is not None
    assert not left.whole
    assert (left.parameters, left.asked) == (1, len(GROUP))


def test_what_is_to_be_ignored_is_not_skipped(saved: Path) -> None:
    asked = cases.specs({"model": SAVED["model"]})
    with open_checkpoint(saved) as checkpoint:
        preview = predict_load(asked, checkpoint, ignore=["optimizer", "st?p"])
    assert preview.skipped == ()
    assert preview.skipped_optimizer is None
    assert "step" in preview.ignored and len(preview.ignored) == 6


def test_every_entry_that_is_ours_loads_itself(samples: Path) -> None:
    with open_checkpoint(samples / "healthy" / "step-8500") as checkpoint:
        preview = predict_load(contract_of(checkpoint).entries, checkpoint)
    assert set(preview.loads) == set(checkpoint.entries)
    assert not preview.raises and not preview.skipped


# -- releases -------------------------------------------------------------------------------------


# Measured with 3,000 random pairs of state dicts each on 2.4.1, 2.13.0 and 2.15.0; the places
# where releases part were read in the sources of 2.3.1, 2.5.1 and 2.6.0 as well.
@pytest.mark.parametrize(
    ("release", "kind", "text"),
    [
        ("2.3.1", "KeyError", "'ema.w'"),
        ("2.4.1", "RuntimeError", "Missing key in checkpoint state_dict: ema.w."),
    ],
)
def test_missing_keys_by_release(saved: Path, release: str, kind: str, text: str) -> None:
    preview = cases.predict({"model": SAVED["model"], "ema": {"w": WEIGHT}}, saved, torch=release)
    assert preview.error is not None
    assert (preview.error.kind, preview.error.text) == (kind, text)


def test_sizes_are_compared_from_2_6_on(saved: Path) -> None:
    asked = {"model": {"w": cases.tensor((5, 2)), "b": cases.tensor((4,))}}
    old = cases.predict(asked, saved, torch="2.5.1")
    assert [pair.fqn for pair in old.cut] == ["model.w"]
    assert not old.raises
    new = cases.predict(asked, saved, torch="2.6.0")
    assert new.error_text == (
        "Size mismatch between saved torch.Size([4, 3]) and current: torch.Size([5, 2]) for model.w"
    )


def test_more_or_fewer_dimensions_before_2_6(saved: Path) -> None:
    more = cases.predict({"model": {"b": cases.tensor((4, 1))}}, saved, torch="2.4.1")
    assert more.error is not None
    assert (more.error.kind, more.error.text) == ("IndexError", "tuple index out of range")
    fewer = cases.predict({"model": {"w": cases.tensor((2,))}}, saved, torch="2.4.1")
    assert fewer.error_text == (
        "req MetadataIndex(fqn='model.w', offset=torch.Size([0, 0]), index=0) mismatch sizes "
        "torch.Size([2]) vs torch.Size([2, 3])"
    )


def test_old_forms_by_release(saved: Path, saved_as_2_3: Path) -> None:
    assert not cases.predict(SAVED, saved_as_2_3, torch="2.5.0").raises
    refused = cases.predict(SAVED, saved_as_2_3, torch="2.4.1")
    assert refused.missing == tuple(f"optimizer.param_groups.0.{key}" for key in GROUP)
    assert not cases.predict(SAVED, saved_as_2_3, torch="2.3.1").raises
    assert cases.predict(SAVED, saved, torch="2.3.1").missing == ("optimizer.param_groups",)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_dtypes_that_torch_cannot_convert() -> None:
    names = [n for n in DTYPES if hasattr(torch, n) and DTYPES[n].kind != "quantized"]
    made = {name: torch.empty(2, dtype=getattr(torch, name)) for name in names}
    entry = object()
    for asked in names:
        for stored in names:
            pair = Mismatch("w", Spec((2,), asked), Spec((2,), stored))
            error = clash(pair, entry, Release())
            if "packed" not in (DTYPES[asked].kind, DTYPES[stored].kind):
                assert error is None
                continue
            if asked == stored or error is None:
                made[asked].copy_(made[stored])
                continue
            with pytest.raises(NotImplementedError) as raised:
                made[asked].copy_(made[stored])
            assert error.text == str(raised.value)


# -- checkpoints of other releases ----------------------------------------------------------------


def test_the_keys_that_an_old_run_asks_for(saved: Path, saved_as_2_3: Path) -> None:
    with open_checkpoint(saved) as checkpoint:
        assert asked_by(checkpoint) == contract_of(checkpoint).entries == cases.specs(SAVED)


@pytest.mark.parametrize("layout", ["base_step8500", "lr_tensor", "single_raw_osd_fp32"])
@pytest.mark.parametrize("release", ["2.0.1", "2.2.2", "2.4.1", "2.13.0"])
def test_real_checkpoints_load_themselves(shared: Path, release: str, layout: str) -> None:
    for path in _checkpoints(shared / "checkpoints" / release / layout):
        with open_checkpoint(path) as checkpoint:
            asked = asked_by(checkpoint)
            preview = predict_load(asked, checkpoint)
            assert not preview.raises, preview.error
            assert not preview.skipped
            # A group with a tensor in it (`lr_tensor`) was opened by 2.3 as well.
            assert preview.old_form == (release in ("2.0.1", "2.2.2") and layout != "lr_tensor")
            assert len(preview.loads) == len(checkpoint)
            assert not any(fqn.endswith("param_groups") for fqn in asked)


@pytest.mark.parametrize("lost", ["step", "model.w"])
def test_entries_that_no_item_holds(lost: str, saved: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(saved, damaged)
    metadata = pickle.loads((damaged / ".metadata").read_bytes())
    for index in [index for index in metadata.storage_data if index.fqn == lost]:
        del metadata.storage_data[index]
    (damaged / ".metadata").write_bytes(pickle.dumps(metadata))
    preview = _check(SAVED, damaged)
    assert preview.unplaced == (lost,)
    assert lost not in preview.loads
    assert _check({**SAVED, "zz": 1}, damaged).missing == ("zz",), "torch plans before it looks up"


def _checkpoints(where: Path) -> list[Path]:
    found = sorted(path.parent for path in where.rglob(".metadata"))
    assert found
    return found
