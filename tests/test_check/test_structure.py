from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import fake_torch as ft
from tests.hostile.draft import chunk, healthy, value_item
from tests.test_check.helpers import check, rules, skipped, the
from tests.test_formats.archives import Rec, Zip, tensor_pickle, tensor_zip


def test_a_sound_checkpoint_has_no_finding(tmp_path: Path) -> None:
    healthy().write(tmp_path)
    result = check(tmp_path, "DCP1")
    assert result.findings == ()
    assert result.skipped == ()
    assert len(result.rules_run) == 13


def test_out_of_bounds(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.weight"].chunks[1] = chunk((3, 0), (2, 3))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP101"))
    assert (found.rule, found.severity, found.subject) == ("DCP101", "error", "model.weight")
    assert found.message == "chunk [3:5, 0:3] is not inside the shape [4, 3]"


def test_overlap(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.weight"].chunks[1] = chunk((1, 0), (3, 3))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP102"))
    assert found.message == (
        "chunks [0:2, 0:3] and [1:4, 0:3] overlap in [1:2, 0:3]; "
        "3 elements of 12 held more than once"
    )


def test_hole(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.weight"].size = ft.Size((8, 3))
    draft.entries["model.weight"].chunks[1] = chunk((6, 0), (2, 3))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP103"))
    assert found.message == "chunks cover 12 of 24 elements; missing [2:6, 0:3]"


def test_more_holes_than_are_told(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((9,))
    draft.entries["model.bias"].chunks = [chunk((i,), (1,)) for i in (1, 3, 5, 7)]
    draft.write(tmp_path)
    assert the(check(tmp_path, "DCP103")).message == (
        "chunks cover 4 of 9 elements; missing [0:1], [2:3], [4:5] and 2 more elements"
    )


def test_duplicate_chunk(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.weight"].chunks.append(chunk((0, 0), (2, 3)))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP1"))
    assert (found.rule, found.severity) == ("DCP104", "warning")
    assert found.message == "chunk [0:2, 0:3] is listed more than once"


def test_dims(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((3, 1))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP105"))
    assert found.message == "its chunks have 1-d offsets and 1-d sizes, the tensor [3, 1] is 2-d"


def test_negative_shape(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((-3,))
    draft.write(tmp_path)
    assert the(check(tmp_path, "DCP105")).message == "the shape [-3] is negative"


def test_item_too_short_for_its_chunk(tmp_path: Path) -> None:
    draft = healthy()
    draft.entries["model.bias"].size = ft.Size((10_000,))
    draft.entries["model.bias"].chunks = [chunk((0,), (10_000,))]
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP106"))
    assert found.message.endswith("bytes, float32[10000] takes 40,000")
    assert found.file == "__0_0.distcp"


def test_planner_data_without_entry_and_entry_without_planner_data(tmp_path: Path) -> None:
    draft = healthy()
    metadata = draft.metadata()
    metadata.planner_data["lost.key"] = ("lost", "key")
    del metadata.planner_data["step"]
    draft.write(tmp_path, metadata=ft.dumps(metadata))
    lost, unnamed = check(tmp_path, "DCP107").findings
    assert lost.subject == unnamed.subject == ".metadata"
    assert lost.message.startswith("the planner data name 1 key that no entry holds")
    assert "'lost.key'" in lost.message
    assert unnamed.message == "1 entry without planner data: 'step'"


def test_a_key_that_is_not_its_object_path(tmp_path: Path) -> None:
    """As one flipped bit in the key leaves it, or in a part of the path."""
    draft = healthy()
    metadata = draft.metadata()
    metadata.planner_data["step"] = ("stgp",)
    metadata.planner_data["model.weight"] = ("model", 0)
    draft.write(tmp_path, metadata=ft.dumps(metadata))
    found = the(check(tmp_path, "DCP113"))
    assert (found.severity, found.subject) == ("warning", "model.weight")
    assert found.message == (
        "its object path is ['model', 0], of which torch makes 'model.0'; so it is with 1 more"
    )


def test_without_planner_data_the_rule_is_skipped(tmp_path: Path) -> None:
    draft = healthy()
    metadata = draft.metadata()
    metadata.planner_data = None
    draft.write(tmp_path, metadata=ft.dumps(metadata))
    result = check(tmp_path, "DCP107")
    assert skipped(result) == {"DCP107": "the checkpoint has no planner data"}
    assert result.rules_run == ()


def test_no_storage_item(tmp_path: Path) -> None:
    draft = healthy()
    for index in list(draft.storage):
        if index.fqn == "step" or (index.fqn == "model.weight" and index.offset[0] == 2):
            del draft.storage[index]
    draft.write(tmp_path)
    tensor, value = check(tmp_path, "DCP108").findings
    assert tensor.message == "no storage item holds 1 of its 2 chunks, such as [2:4, 0:3]"
    assert (value.subject, value.message) == ("step", "no storage item holds it")


def test_orphan(tmp_path: Path) -> None:
    draft = healthy()
    index = ft.MetadataIndex(fqn="gone", offset=ft.Size((0,)), index=0)
    draft.storage[index] = draft.put("__0_0.distcp", b"x" * 9)
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP109"))
    assert (found.subject, found.severity, found.file) == ("gone", "warning", "__0_0.distcp")
    assert found.message == "a storage item of 9 bytes at [0] belongs to no entry"


@pytest.mark.parametrize(
    ("pickle", "path", "severity"),
    [
        (b"cposix\nsystem\n(X\x04\x00\x00\x00truetR.", "posix.system", "error"),
        (b"c__builtin__\neval\n.", "builtins.eval", "error"),
        (b"cmy.project\nLoaderState\n)\x81.", "my.project.LoaderState", "warning"),
        (b"ccollections\ndefaultdict\n(cmy.own\nfactory\ntR.", "my.own.factory", "warning"),
        (b"ctorch.nn.modules.linear\nLinear\n)\x81.", "torch.nn.modules.linear.Linear", "warning"),
        (b"ctorch.nn.modules.linear\nLinaer\n)\x81.", "torch.nn.modules.linear.Linaer", "error"),
        (b"ctorch.linear\nLinear\n)\x81.", "torch.linear.Linear", "error"),
        (b"ctorch\nfloat64x2\n.", "torch.float64x2", "error"),
    ],
)
def test_unknown_global(tmp_path: Path, pickle: bytes, path: str, severity: str) -> None:
    draft = healthy()
    draft.replace_item("step", value_item(b"\x80\x02" + pickle))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP110"))
    assert (found.subject, found.severity) == ("step", severity)
    assert f"'{path}'" in found.message


def test_a_name_that_only_other_releases_have(tmp_path: Path) -> None:
    draft = healthy()
    path = b"torch.distributed.fsdp._fully_shard._fsdp_api\nMixedPrecisionPolicy"
    draft.replace_item("step", value_item(b"\x80\x02c" + path + b"\n)\x81."))
    draft.write(tmp_path)
    assert the(check(tmp_path, "DCP110", torch="2.13")).severity == "warning"
    found = the(check(tmp_path, "DCP110", torch="2.4"))
    assert found.severity == "error"
    assert "loading this fails: torch 2.4 does not have it, torch 2.6 to 2.14 do" in found.message


def test_the_worst_of_what_a_pickle_does_with_a_global_is_told(tmp_path: Path) -> None:
    draft = healthy()
    draft.replace_item("step", value_item(b"\x80\x02cmy.own\nrun\n."))
    draft.value("other", b"\x80\x02cmy.own\nrun\n)R.")
    draft.write(tmp_path)
    found = {(one.severity, one.subject): one for one in check(tmp_path, "DCP110").findings}
    assert set(found) == {("warning", "step"), ("error", "other")}
    assert found["error", "other"].message == (
        "its pickle calls 'my.own.run'; loading this runs code: my.own.run"
    )


def test_values_of_the_standard_library_are_no_finding(tmp_path: Path) -> None:
    import argparse
    import datetime
    import pickle

    values = [slice(3), ..., datetime.timedelta(3), range(3), argparse.Namespace(lr=1)]
    draft = healthy()
    draft.replace_item("step", value_item(pickle.dumps(values, 2)))
    draft.write(tmp_path)
    assert not check(tmp_path, "DCP110").findings


def test_unknown_global_in_front_of_a_tensor(tmp_path: Path) -> None:
    draft = healthy()
    payload = b"cos\nsystem\n(X\x04\x00\x00\x00truetR0"
    pickle = tensor_pickle((3,), numel=3)
    archive = tensor_zip(pickle[:2] + payload + pickle[2:], b"\0" * 12)
    draft.replace_item("model.bias", archive.build())
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP110"))
    assert (found.subject, found.severity) == ("model.bias", "error")


def test_one_finding_for_a_global_of_many_entries(tmp_path: Path) -> None:
    draft = healthy()
    for rank in range(4):
        draft.value(f"loader.rank_{rank}", b"\x80\x02cmy.project\nState\n)\x81.")
    draft.write(tmp_path)
    assert the(check(tmp_path, "DCP110")).message.endswith("; so do 3 more entries")


def test_names_in_messages_cannot_reach_the_terminal(tmp_path: Path) -> None:
    draft = healthy()
    metadata = draft.metadata()
    metadata.planner_data["\x1b[2Jgone\u202e"] = ("gone",)
    record = [Rec("data.pkl", b"\x80\x02c\x1b]0;x\x07\nState\n)\x81."), Rec("version", b"3\n")]
    draft.replace_item("step", Zip(record).build())
    draft.write(tmp_path, metadata=ft.dumps(metadata))
    result = check(tmp_path, "DCP1")
    assert rules(result) == {"DCP107", "DCP110"}
    assert all(found.message.isprintable() for found in result.findings)
