from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl import torch_bridge
from dcpctl.formats.metadata import DCP
from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.records import ChunkTable, StoredCheckpoint, StoredTensor
from dcpctl.model import releases
from tests.hostile import fake_torch as ft
from tests.hostile.draft import Draft, healthy
from tests.test_check.helpers import adamw, check, forget, rules, skipped, the, value_of

M = "torch.distributed.checkpoint.metadata."
OLD = "torch.distributed._shard.checkpoint.metadata.Metadata"


def stored(*names: str, fields: int = 5, **more: object) -> StoredCheckpoint:
    made = StoredCheckpoint(DCP, globals=frozenset(names), fields=dict(more))
    empty = ChunkTable(*[None] * 5)  # type: ignore[arg-type]
    made.entries["w"] = StoredTensor("w", (1,), "float32", empty, pickled_fields=fields)
    return made


META = Record("StorageMeta", {"checkpoint_id": "x"})
META_2_7 = Record("StorageMeta", {"checkpoint_id": "x", "modules": []})


@pytest.mark.parametrize(
    ("found", "form"),
    [
        (stored(OLD), "1.13"),
        (stored(M + "Metadata"), "2.0 to 2.2"),
        (stored(M + "TensorProperties"), "2.3"),
        (stored(M + "TensorProperties", storage_meta=META), "2.4 to 2.6"),
        (stored(M + "TensorProperties", storage_meta=META_2_7), "2.7 to 2.8"),
        (stored(M + "TensorProperties", storage_meta=META_2_7, version="1.0.0"), "2.9 to 2.14"),
        (stored(M + "TensorProperties", fields=6, version="1.0.0"), "2.15"),
    ],
)
def test_forms(found: StoredCheckpoint, form: str) -> None:
    told = releases.form_of(found)
    assert told is not None
    assert told.releases == form


@pytest.mark.parametrize(
    ("found", "reads", "fails"),
    [
        (stored(OLD), ("1.13.1",), ("2.0", "2.13.0", "2.15")),
        (stored(M + "Metadata"), ("2.0", "2.13.0+cpu", "2.15"), ("1.13",)),
        (stored(M + "TensorProperties"), ("2.3", "2.15"), ("2.0", "2.2.2")),
        (stored(M + "StorageMeta"), ("2.4",), ("2.3.1",)),
        (stored(M + "TensorProperties", fields=6), ("2.15", "2.16"), ("2.14.1", "2.13", "2.4")),
        (
            stored("torch.distributed.checkpoint._fsspec_filesystem._StorageInfo"),
            ("2.1", "2.2"),
            ("2.3", "2.13"),
        ),
    ],
)
def test_what_a_release_cannot_read(
    found: StoredCheckpoint, reads: tuple[str, ...], fails: tuple[str, ...]
) -> None:
    assert {release for release in reads if list(releases.obstacles(found, release))} == set()
    assert {release for release in fails if list(releases.obstacles(found, release))} == set(fails)


def test_older_release_and_missing_fields(tmp_path: Path) -> None:
    healthy().write(tmp_path)
    older, fields = check(tmp_path, "DCP401", "DCP402").findings
    assert (older.rule, older.severity, older.subject) == ("DCP401", "info", ".metadata")
    assert older.message.startswith("has the form of torch 2.3; newer ones add storage_meta")
    assert fields.message == "has no storage_meta, version"
    assert check(tmp_path, "DCP401", torch="2.3").findings == ()


@pytest.mark.parametrize(
    ("prefix", "wrapper"),
    [
        ("model._orig_mod.", "torch.compile"),
        ("model.layers.0._checkpoint_wrapped_module.", "activation checkpointing"),
        ("model._fsdp_wrapped_module.", "FSDP1"),
    ],
)
def test_wrapper_names(tmp_path: Path, prefix: str, wrapper: str) -> None:
    draft = Draft()
    draft.tensor(prefix + "weight", (4,))
    draft.tensor(prefix + "bias", (4,))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP403"))
    assert (found.severity, found.subject) == ("warning", prefix + "weight")
    assert found.message.startswith("2 names with ")
    assert wrapper in found.message


def test_module_is_ddps_where_model_and_optimizer_differ_in_it(tmp_path: Path) -> None:
    draft = adamw("norm.weight", "wq.weight")
    for name in ("norm.weight", "wq.weight"):
        draft.entries[f"model.module.{name}"] = draft.entries.pop(f"model.{name}")
    draft.write(tmp_path / "leaked")
    found = the(check(tmp_path / "leaked", "DCP403"))
    assert found.message.startswith("2 names with 'module.' of DistributedDataParallel")

    everywhere = adamw("module.norm.weight", "module.wq.weight")
    everywhere.write(tmp_path / "everywhere")
    assert check(tmp_path / "everywhere", "DCP403").findings == ()


def test_a_module_called_module_is_no_wrapper(tmp_path: Path) -> None:
    draft = Draft()
    draft.tensor("model.layers.0.module.weight", (4,))
    draft.write(tmp_path)
    assert check(tmp_path, "DCP403").findings == ()


def without_decoupled(draft: Draft) -> Draft:
    for fqn in [fqn for fqn in draft.entries if fqn.endswith("decoupled_weight_decay")]:
        forget(draft, fqn)
    return draft


def test_missing_group_keys(tmp_path: Path) -> None:
    without_decoupled(adamw()).write(tmp_path)
    found = the(check(tmp_path, "DCP404"))
    assert (found.severity, found.subject) == ("error", "optimizer.param_groups")
    assert "has no 'decoupled_weight_decay' in 1 group; torch 2.13 refuses" in found.message
    assert check(tmp_path, "DCP404", torch="2.6").findings == ()


def test_missing_group_keys_in_one_pickled_list_are_a_warning(tmp_path: Path) -> None:
    draft = adamw()
    for fqn in [fqn for fqn in draft.entries if fqn.startswith("optimizer.param_groups")]:
        forget(draft, fqn)
    group = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "amsgrad": False}
    group |= {"foreach": None, "maximize": False, "capturable": False, "differentiable": False}
    group |= {"fused": None, "params": ["layers.0.weight", "layers.1.weight"]}
    draft.value("optimizer.param_groups", b"")
    draft.replace_item("optimizer.param_groups", value_of([group]))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP404"))
    assert found.severity == "warning"
    assert "loads without it and leaves it out; its default there is" in found.message


def test_the_committed_legacy_sample(samples: Path) -> None:
    assert rules(check(samples / "legacy"), "error") == {"DCP404"}
    assert rules(check(samples / "legacy", torch="2.6"), "error") == set()


def test_without_torch_and_without_target_the_rules_are_skipped(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_bridge, "installed_version", lambda: None)
    result = check(samples / "legacy", "DCP404", "DCP405", torch=None)
    because = "torch is not installed here, and --torch names no release"
    assert skipped(result) == {"DCP404": because, "DCP405": because}
    assert result.target is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1.13.1-optim_AdamW", "is the module path of 1.13, moved in 2.0"),
        ("2.15.0-optim_AdamW", "TensorProperties has 6 fields"),
    ],
)
def test_metadata_that_the_target_cannot_read(samples: Path, name: str, reason: str) -> None:
    result = check(samples / "releases" / name, "DCP404", "DCP405")
    found = the(result)
    assert (found.rule, found.severity) == ("DCP405", "error")
    assert found.message.startswith("torch 2.13 cannot load it: ")
    assert reason in found.message
    assert "" in skipped(result)["DCP404"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("PosixPath", "WindowsPath", "was written on Windows"),
        ("pathlib", "pathlib._local", "Python 3.12 and older cannot load"),
    ],
)
def test_metadata_that_a_python_cannot_read(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = {"pathlib": "pathlib", "PosixPath": "PosixPath"} | {old: new}
    pickle = f"\x80\x02c{path['pathlib']}\n{path['PosixPath']}\n(X\x01\x00\x00\x00atR."
    draft = healthy()
    draft.fields["storage_meta"] = "here"
    data = ft.dumps(draft.metadata(), 2)
    call = pickle.encode("latin-1")[2:-1]
    data = data.replace(b"X\x04\x00\x00\x00here", call)
    assert call in data
    draft.write(tmp_path, metadata=data)
    found = the(check(tmp_path, "DCP406"))
    assert found.severity == "warning"
    assert words in found.message


@pytest.mark.parametrize("name", ["no_collectives", "releases/2.13.0-safetensors_format"])
def test_forms_without_a_reader(samples: Path, name: str) -> None:
    found = the(check(samples / name, "DCP407"))
    assert found.severity == "warning"


def test_a_framework_of_its_own(shared: Path) -> None:
    path = shared / "frameworks/olmo_core/flattened_skipstep_w2/step3"
    found = the(check(path, "DCP408"))
    assert found.message == "refers to 'olmo_core', without which torch cannot load it"


def test_flattened_parameters(tmp_path: Path) -> None:
    draft = Draft()
    draft.tensor("model._flat_param", (4,))
    draft.write(tmp_path)
    assert the(check(tmp_path, "DCP409")).severity == "warning"
