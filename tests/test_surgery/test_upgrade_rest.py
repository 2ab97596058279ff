"""Upgrade, steps step-tensor, missing-state and metadata; and all of them on real checkpoints."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcpctl.check.engine import run_checks
from dcpctl.check.options import CheckOptions
from dcpctl.errors import DcpctlError, Refused, UsageError
from dcpctl.formats.pickles.standins import Record
from dcpctl.model.draft import BytesDraft, Draft, TensorDraft
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.source import Fill
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import StepReport, upgrade
from dcpctl.writing.plan import plan
from dcpctl.writing.write import write
from tests.test_surgery import oracle

Open = Callable[[Path], Draft]


def report(steps: list[StepReport], name: str) -> StepReport:
    return next(step for step in steps if step.name == name)


# -- step-tensor ---------------------------------------------------------------------------------


def test_steps_become_tensors(shared: Path, opened: Open) -> None:
    source = opened(shared / "checkpoints/2.6.0/step_int_float/ckpt")
    draft, steps = upgrade(source, Upgrade("2.13"))
    assert report(steps, "step-tensor").changed == 21
    for fqn, entry in draft.entries.items():
        if fqn.endswith(".step"):
            assert isinstance(entry, TensorDraft)
            assert (entry.shape, entry.dtype, entry.source) == ((), "float32", Fill(8500.0))


@pytest.mark.parametrize(
    ("name", "target", "tensor"),
    [
        ("RMSprop", "2.3", False),
        ("RMSprop", "2.4", True),
        ("Adadelta", "2.13", True),
        ("Rprop", "2.2", False),
        ("SparseAdam", "2.13", False),
        ("Adam", "2.0", True),
    ],
)
@pytest.mark.parametrize("release", ["2.2.2", "2.13.0"])
def test_the_step_is_what_the_target_keeps(
    shared: Path, opened: Open, release: str, name: str, target: str, tensor: bool
) -> None:
    source = opened(shared / "checkpoints" / release / f"optim_{name}" / "ckpt")
    draft, _ = upgrade(source, Upgrade(target))
    slots = OptimizerView(draft).parameters[0].slots
    assert (slots["step"].shape == ()) is tensor
    before = OptimizerView(source).parameters[0].slots["step"].value()
    assert slots["step"].value() == before


# -- missing-state -------------------------------------------------------------------------------


def without_state(draft: Draft, *names: str) -> Draft:
    """The draft without the optimizer state of some parameters."""
    starts = tuple(f"optimizer.state.{name}." for name in names)
    gone = {fqn for fqn in draft.entries if f"{fqn}.".startswith(starts)}
    assert gone
    kept = [entry for fqn, entry in draft.entries.items() if fqn not in gone]
    planner = {f: path for f, path in (draft.planner_data or {}).items() if f not in gone}
    return draft.with_entries(kept, planner)


def test_parameters_that_never_trained_get_zeros(
    shared: Path, opened: Open, tmp_path: Path
) -> None:
    whole = opened(shared / "checkpoints/2.13.0/fsdp2_list_fp32/ckpt")
    names = [p.name for p in OptimizerView(whole).parameters if p.name.startswith("layers.1.")]
    source = without_state(whole, *names)
    same, steps = upgrade(source, Upgrade("2.13"))
    assert same is source
    draft, steps = upgrade(source, Upgrade("2.13", fill_missing_state="zeros"))
    assert report(steps, "missing-state").changed == 3 * len(names)
    assert OptimizerView(draft).verdict == "complete"
    assert set(draft.entries) == set(whole.entries)
    assert draft.planner_data == {f: whole.planner_data[f] for f in draft.planner_data or {}}  # type: ignore[index]
    write(plan(draft, tmp_path / "new"))
    with open_checkpoint(tmp_path / "new") as made:
        for name in names:
            moment = made.tensors[f"optimizer.state.{name}.exp_avg"]
            weight = made.tensors[f"model.{name}"]
            assert moment.shape == weight.shape
            assert not moment.numpy().any()
            boxes = [[(c.offsets, c.sizes) for c in entry.chunks] for entry in (moment, weight)]
            assert boxes[0] == boxes[1]
            assert made.tensors[f"optimizer.state.{name}.step"].numpy() == np.float32(0)


def test_a_parameter_without_a_gradient_gets_zeros_too(samples: Path, opened: Open) -> None:
    whole = opened(samples / "healthy" / "step-8500")
    source = without_state(whole, "layers.0.attention.wq.weight")
    draft, steps = upgrade(source, Upgrade("2.13", fill_missing_state="zeros"))
    assert set(draft.entries) == set(whole.entries)
    note = report(steps, "missing-state").note
    assert note == "zeros for 'layers.0.attention.wq.weight': never given a gradient, or lost"


def test_state_that_was_lost_is_not_made_up(samples: Path, opened: Open) -> None:
    whole = opened(samples / "healthy" / "step-8500")
    slot = "optimizer.state.layers.0.attention.wq.weight.exp_avg"
    kept = [entry for fqn, entry in whole.entries.items() if fqn != slot]
    planner = dict(whole.planner_data or {})
    del planner[slot]
    with pytest.raises(Refused, match="was made and is lost"):
        upgrade(whole.with_entries(kept, planner), Upgrade("2.13", fill_missing_state="zeros"))
    gone = [e for f, e in whole.entries.items() if not f.startswith(slot.removesuffix("exp_avg"))]
    with pytest.raises(Refused, match="was made and is lost"):
        upgrade(
            whole.with_entries(gone, whole.planner_data),
            Upgrade("2.13", fill_missing_state="zeros"),
        )


def test_nothing_missing_is_nothing_filled(samples: Path, opened: Open) -> None:
    source = opened(samples / "healthy" / "step-8500")
    draft, _ = upgrade(source, Upgrade("2.13", fill_missing_state="zeros"))
    assert draft is source


# -- metadata ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "target", "form"),
    [
        ("2.15.0-optim_AdamW", "2.13", None),
        ("2.15.0-optim_AdamW", "2.2", "2.2"),
        ("1.13.1-model_only_flat", "2.13", None),
        ("2.1.2-optim_AdamW", "2.13", None),
        ("2.13.0-optim_Muon", "2.9", None),
        ("2.13.0-safetensors_format", "2.13", None),
    ],
)
def test_metadata_in_the_form_of_the_target(
    samples: Path, opened: Open, tmp_path: Path, sample: str, target: str, form: str | None
) -> None:
    source = opened(samples / "releases" / sample)
    draft, steps = upgrade(source, Upgrade(target))
    assert draft.form == form
    assert (report(steps, "metadata").changed > 0) is (sample != "2.13.0-optim_Muon")
    write(plan(draft, tmp_path / "new"))
    found = run_checks(tmp_path / "new", CheckOptions(select=("DCP4",), torch=target)).findings
    assert found == ()


def test_no_collectives_are_joined(samples: Path, opened: Open, tmp_path: Path) -> None:
    draft, steps = upgrade(opened(samples / "no_collectives"), Upgrade("2.13"))
    assert report(steps, "metadata").changed == 1
    write(plan(draft, tmp_path / "new"))
    options = CheckOptions(ignore=("DCP501",), torch="2.13")  # it holds no optimizer
    assert run_checks(tmp_path / "new", options).findings == ()


def test_compressed_items_for_a_release_that_cannot_read_them(
    samples: Path, opened: Open, tmp_path: Path
) -> None:
    draft, steps = upgrade(opened(samples / "zstd"), Upgrade("2.6"))
    assert "decompressed" in report(steps, "metadata").note
    write(plan(draft, tmp_path / "new"))
    with open_checkpoint(tmp_path / "new") as made, open_checkpoint(samples / "zstd") as source:
        for fqn, entry in source.tensors.items():
            assert made.tensors[fqn].stored.transforms == ()
            assert made.tensors[fqn].numpy().tobytes() == entry.numpy().tobytes()
            chunks = [[(c.offsets, c.sizes) for c in e.chunks] for e in (entry, made.tensors[fqn])]
            assert chunks[0] == chunks[1]


def test_dtypes_that_the_target_does_not_know(shared: Path, opened: Open) -> None:
    with pytest.raises(Refused, match=r"knows uint16 from 2\.6 on"):
        upgrade(opened(shared / "checkpoints/2.13.0/dtensor_zoo/ckpt"), Upgrade("2.4"))


def test_a_frameworks_own_classes_are_written_out(shared: Path, opened: Open) -> None:
    where = shared / "frameworks/olmo_core/flattened_skipstep_w2/step3"
    if not where.is_dir():
        pytest.skip("no such checkpoint")
    _, steps = upgrade(opened(where), Upgrade("2.13"))
    assert "olmo_core" in report(steps, "metadata").note


def test_fields_that_are_filled_in(samples: Path, opened: Open) -> None:
    draft, _ = upgrade(opened(samples / "releases" / "2.2.2-optim_AdamW"), Upgrade("2.13"))
    assert draft.fields is not None
    meta = draft.fields["storage_meta"]
    assert isinstance(meta, Record)
    assert list(meta.fields) == ["checkpoint_id", "save_id", "load_id", "modules"]
    assert draft.fields["version"] == "1.0.0"
    older, _ = upgrade(opened(samples / "releases" / "2.2.2-optim_AdamW"), Upgrade("2.5"))
    assert older.fields is not None
    assert list(older.fields["storage_meta"].fields) == ["checkpoint_id", "save_id", "load_id"]
    assert "version" not in older.fields


def test_the_default_target_is_the_installed_torch(
    monkeypatch: pytest.MonkeyPatch, samples: Path, opened: Open
) -> None:
    from dcpctl import torch_bridge

    source = opened(samples / "releases" / "2.2.2-optim_AdamW")
    monkeypatch.setattr(torch_bridge, "installed_version", lambda: "2.2.2")
    assert upgrade(source, Upgrade())[0].form == "2.2"
    monkeypatch.setattr(torch_bridge, "installed_version", lambda: None)
    with pytest.raises(UsageError, match="not installed"):
        upgrade(source, Upgrade())


# -- everything, on real checkpoints -------------------------------------------------------------

RELEASES = ("2.0.1", "2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0")


def tensors(found: dict[str, Any]) -> Counter[Any]:
    """What tensors there are, whatever they are called."""
    return Counter(
        value
        for value in found.values()
        if isinstance(value, tuple) and len(value) == 3 and isinstance(value[1], tuple)
    )


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_torch_loads_every_upgraded_checkpoint(
    torch: Any, shared: Path, tmp_path: Path, release: str
) -> None:
    """Bit for bit, under names without wrappers, and with nothing left to complain of."""
    seen = 0
    for where in sorted((shared / "checkpoints" / release).iterdir()):
        # What 2.0 never wrote cannot be compared.
        if where.name == "pp_like_w4" and release in ("2.0.1", "2.2.2"):
            continue
        target = oracle.made(where / "ckpt", tmp_path / where.name, Upgrade("2.13"))
        # Integer keys that torch turned into text stay that, whatever the form.
        options = CheckOptions(select=("DCP4",), ignore=("DCP411",), torch="2.13")
        assert run_checks(target, options).findings == (), where.name
        found, truth = oracle.by_torch(target), oracle.truth(where / "ckpt")
        before, after = tensors(truth), tensors(found)
        assert not before - after, where.name
        # What there is more of are steps that were ints.
        assert all(shape == () for _, shape, _ in after - before), where.name
        for fqn, value in truth.items():
            if fqn in found and not isinstance(value, (list, dict)):
                assert fqn == strip_wrappers(fqn)
                if not fqn.endswith(".step") and isinstance(value, (int, float, str)):
                    assert found[fqn] == value, (where.name, fqn)
        seen += 1
    assert seen > 30


@pytest.mark.parametrize("target", ["1.13", "2.0", "2.3", "2.4", "2.6", "2.10", "2.15", "2.15.7"])
def test_every_target_makes_a_checkpoint_or_says_why_not(
    shared: Path, tmp_path: Path, target: str
) -> None:
    for layout in ("extras_w4", "single_raw_osd_bf16", "fsdp2_flat_bf16", "zstd", "dtensor_zoo"):
        with open_checkpoint(shared / "checkpoints/2.13.0" / layout / "ckpt") as checkpoint:
            try:
                draft, _ = upgrade(Draft.of(checkpoint), Upgrade(target))
            except DcpctlError as error:
                assert layout == "dtensor_zoo", error
                continue
            write(plan(draft, tmp_path / layout))
        found = run_checks(
            tmp_path / layout,
            CheckOptions(select=("DCP4",), ignore=("DCP402", "DCP411"), torch=target),
        ).findings
        assert found == (), layout


@pytest.mark.parametrize("target", ["2.99", "1.12", "3.0", "2", "soon", ""])
def test_a_release_that_nobody_knows_is_refused(samples: Path, opened: Open, target: str) -> None:
    with pytest.raises(UsageError, match="no torch release") as raised:
        upgrade(opened(samples / "legacy"), Upgrade(target))
    assert "1.13 to 2.15" in (raised.value.hint or "")


def test_nothing_of_the_source_is_touched(shared: Path, opened: Open) -> None:
    source = opened(shared / "checkpoints/2.2.2/extras_w4/ckpt")
    before = [dataclasses.replace(e) for e in source.entries.values() if isinstance(e, BytesDraft)]
    shown = {entry.fqn: repr(entry.value) for entry in before}
    upgrade(source, Upgrade("2.13"))
    upgrade(source, Upgrade("2.2"))
    assert {entry.fqn: repr(entry.value) for entry in before} == shown
