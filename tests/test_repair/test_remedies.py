"""Grafts, state dropped and renewed: only when asked for, for exactly what is lost, recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dcpctl.errors import Refused
from dcpctl.model.opening import open_checkpoint
from dcpctl.repair.remedy import COPIED, DROPPED, FILLED, GRAFTED, GRAFTED_OLDER
from tests import corruptors
from tests.test_repair.wrecks import RUN, SIBLING, WRECK, meaning_of, mend, numbers_of, wreck

STATE = "optimizer.state.layers.0.attention.wq.weight"


def test_a_copy_of_the_same_save_heals_exactly(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    corruptors.flip_data(source, "model.tok_embeddings.weight", row=1)
    corruptors.flip_data(source, f"{STATE}.exp_avg", row=3)
    (source / "__2_0.distcp").unlink()
    mended = mend("repair", source, tmp_path / "made", samples / WRECK)
    assert {remedy.what for remedy in mended.remedies} == {GRAFTED}
    assert len(mended.remedies) == 52 + 2
    assert not mended.warnings
    assert numbers_of(tmp_path / "made") == numbers_of(samples / WRECK)


def test_torch_reads_what_was_grafted(samples: Path, tmp_path: Path, torch: object) -> None:
    from tests.test_surgery.oracle import by_torch, truth

    mend("repair", samples / "flipped_bit", tmp_path / "made", samples / f"{RUN}/step-8500")
    read, known = by_torch(tmp_path / "made"), truth(samples / f"{RUN}/step-8500")
    assert {fqn: read[fqn] for fqn in known} == known


def test_another_save_is_taken_only_when_allowed(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    fqn = "model.tok_embeddings.weight"
    corruptors.flip_data(source, fqn, row=1)
    with pytest.raises(Refused) as refused:
        mend("repair", source, tmp_path / "made", samples / SIBLING)
    assert "--allow-older takes 1 of 1" in (refused.value.hint or "")
    mended = mend("repair", source, tmp_path / "made", samples / SIBLING, allow_older=True)
    assert [remedy.what for remedy in mended.remedies] == [GRAFTED_OLDER]
    assert "no exact copy" in mended.warnings[0]
    made, mine = numbers_of(tmp_path / "made"), numbers_of(samples / WRECK)
    assert {key for key in mine if made[key] != mine[key]} == {fqn}
    with (
        open_checkpoint(tmp_path / "made") as new,
        open_checkpoint(samples / WRECK) as old,
        open_checkpoint(samples / SIBLING) as other,
    ):
        rows = old.tensors[fqn].chunks[1]
        part = slice(rows.offsets[0], rows.offsets[0] + rows.sizes[0])
        expected = old.tensors[fqn].numpy()
        expected[part] = other.tensors[fqn][part]
        assert np.array_equal(new.tensors[fqn].numpy(), expected)
    record = json.loads((tmp_path / "made" / "dcpctl-repair.json").read_text())
    assert record["remedies"][0]["what"] == GRAFTED_OLDER
    assert record["remedies"][0]["offsets"] == list(rows.offsets)
    assert record["remedies"][0]["origin"].endswith(f"{SIBLING}/__1_0.distcp")


def test_a_rebuilt_wreck_can_be_healed_in_the_same_run(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    corruptors.truncate(source / "__3_0.distcp", -4_000)
    mended = mend("repair", source, tmp_path / "made", samples / SIBLING, allow_older=True)
    assert mended.survey.basis == "rebuilt"
    assert {remedy.what for remedy in mended.remedies} == {GRAFTED_OLDER}
    made, mine, theirs = (
        numbers_of(path) for path in (tmp_path / "made", samples / WRECK, samples / SIBLING)
    )
    lost = {remedy.fqn for remedy in mended.remedies}
    assert set(made) == set(mine)
    assert all(made[fqn] == mine[fqn] for fqn in made if fqn not in lost)
    assert all(made[fqn] in (mine[fqn], theirs[fqn]) or fqn in lost for fqn in made)


def test_equal_weights_do_not_make_a_save_the_same(samples: Path, tmp_path: Path) -> None:
    """A model without optimizer, whose save has another id: nothing proves that it is a copy."""
    source = corruptors.copy(samples / "model_only/step-8500", tmp_path / "wreck")
    copy = corruptors.copy(source, tmp_path / "copy")
    corruptors.flip_data(source, "model.norm.weight")
    with open_checkpoint(source) as checkpoint:
        save_id = checkpoint.parts[0].stored.fields["storage_meta"].fields["save_id"]
    other = save_id[:-4] + "0000"
    corruptors.patch(copy / ".metadata", save_id.encode(), other.encode())
    with pytest.raises(Refused, match="1 item of 1 key lost"):
        mend("repair", source, tmp_path / "made", copy)
    corruptors.patch(copy / ".metadata", other.encode(), save_id.encode())
    mended = mend("repair", source, tmp_path / "made", copy)
    assert [remedy.what for remedy in mended.remedies] == [GRAFTED]


def test_a_rebuilt_checkpoint_has_no_id_to_be_known_by(samples: Path, tmp_path: Path) -> None:
    """The id in rebuilt metadata would be the sibling's own."""
    sibling = samples / "model_only/step-8500"
    source = wreck(sibling, tmp_path / "wreck")
    corruptors.truncate(source / "__3_0.distcp", -500)
    with pytest.raises(Refused) as refused:
        mend("repair", source, tmp_path / "made", sibling)
    assert "--allow-older" in (refused.value.hint or "")


def test_a_replicas_copy_heals_without_a_sibling(samples: Path, tmp_path: Path) -> None:
    """The per-rank form has a copy of what is replicated in every rank's file."""
    source = corruptors.copy(samples / "no_collectives", tmp_path / "wreck")
    with open_checkpoint(source) as checkpoint:
        copied = checkpoint.parts[0].stored.replicas[0].fqn
    is_value = copied in open_checkpoint(source).bytes_entries
    (corruptors.flip_pickle if is_value else corruptors.flip_data)(source, copied)
    mended = mend("repair", source, tmp_path / "made")
    assert [(remedy.what, remedy.fqn) for remedy in mended.remedies] == [(COPIED, copied)]
    assert numbers_of(tmp_path / "made") == numbers_of(samples / "no_collectives")


def test_broken_state_is_dropped_for_exactly_its_parameter(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    corruptors.flip_data(source, f"{STATE}.exp_avg_sq", row=2)
    with pytest.raises(Refused) as refused:
        mend("repair", source, tmp_path / "made")
    assert "--drop-broken-state" in (refused.value.hint or "")
    mended = mend("repair", source, tmp_path / "made", drop_broken_state=True)
    dropped = {f"{STATE}.{slot}" for slot in ("step", "exp_avg", "exp_avg_sq")}
    assert {remedy.fqn for remedy in mended.remedies} == dropped
    assert {remedy.what for remedy in mended.remedies} == {DROPPED}
    original = numbers_of(samples / WRECK)
    kept = {fqn: value for fqn, value in original.items() if fqn not in dropped}
    assert numbers_of(tmp_path / "made") == kept


def test_broken_state_begins_anew_where_asked(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    corruptors.flip_data(source, f"{STATE}.exp_avg", row=0)
    mended = mend("repair", source, tmp_path / "made", fill_broken_state=True)
    filled = {f"{STATE}.{slot}" for slot in ("step", "exp_avg", "exp_avg_sq")}
    assert {remedy.fqn for remedy in mended.remedies if remedy.what == FILLED} == filled
    made, original = numbers_of(tmp_path / "made"), numbers_of(samples / WRECK)
    assert list(made) == list(original)
    assert all(not any(made[fqn]) for fqn in filled)
    assert {fqn for fqn in made if made[fqn] != original[fqn]} == filled
    there, before = meaning_of(tmp_path / "made"), meaning_of(samples / WRECK)
    fqn = f"{STATE}.exp_avg"
    boxes = [place[:2] for place in before[fqn][3]]
    assert [place[:2] for place in there[fqn][3]] == boxes


def test_a_lost_weight_is_not_dropped_with_the_state(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    corruptors.flip_data(source, f"{STATE}.exp_avg")
    corruptors.flip_data(source, "model.norm.weight")
    with pytest.raises(Refused, match=r"1 item of 1 key lost \('model.norm.weight'\)"):
        mend("repair", source, tmp_path / "made", drop_broken_state=True)
