"""Saves and runs as frameworks lay them out, each as a table of path templates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.saves import Found, look
from tests.hostile.draft import Draft
from tests.test_check.helpers import adamw, forget, value_of

#: What a template stands for: the whole job, its halves, one rank's data position, an export.
FULL, MODEL, OPTIM, DATA, EXPORT = "full", "model", "optim", "data", "export"
STEPS = (5, 10)


@dataclass(frozen=True)
class Layout:
    """A framework's tree.

    Attributes:
        holds: path template to what lies there; `{s}` is the step, `{e}` the number of the save.
        runs: path of each run to the paths of its saves, newest first.
        parts: directories of the newest save of the first run.
        files: other files, text.
        links: symbolic links, to what they lead to.
        once: paths without a step in them.
    """

    holds: dict[str, str]
    runs: dict[str, list[str]]
    parts: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


LAYOUTS = {
    "accelerate": Layout(
        {"checkpoints/checkpoint_{e}/pytorch_model_fsdp_0": MODEL}
        | {"checkpoints/checkpoint_{e}/optimizer_0": OPTIM},
        {"checkpoints": ["checkpoint_1", "checkpoint_0"]},
        ("optimizer_0", "pytorch_model_fsdp_0"),
    ),
    "accelerate, two models": Layout(
        {f"checkpoint_{{e}}/pytorch_model_fsdp_{i}": f"{MODEL}{i}" for i in "01"}
        | {f"checkpoint_{{e}}/optimizer_{i}": f"{OPTIM}{i}" for i in "01"},
        {"": ["checkpoint_1", "checkpoint_0"]},
        ("optimizer_0", "optimizer_1", "pytorch_model_fsdp_0", "pytorch_model_fsdp_1"),
    ),
    "transformers": Layout(
        {"checkpoint-{s}/pytorch_model_fsdp_0": MODEL, "checkpoint-{s}/optimizer_0": OPTIM}
        | {".": EXPORT},
        {"": ["checkpoint-10", "checkpoint-5", ""]},
        ("optimizer_0", "pytorch_model_fsdp_0"),
        files={"checkpoint-{s}/trainer_state.json": '{"global_step": {s}}'},
    ),
    "Lightning": Layout(
        {"lightning_logs/version_0/checkpoints/epoch={e}-step={s}.ckpt": FULL},
        {"lightning_logs/version_0/checkpoints": ["epoch=1-step=10.ckpt", "epoch=0-step=5.ckpt"]},
        (".",),
    ),
    "Composer": Layout(
        {"llm/checkpoints/ep0-ba{s}": FULL},
        {"llm/checkpoints": ["ep0-ba10", "ep0-ba5"]},
        (".",),
        links={"llm/checkpoints/latest": "ep0-ba10"},
    ),
    "torchtitan": Layout(
        {"checkpoint/step-{s}": FULL}, {"checkpoint": ["step-10", "step-5"]}, (".",)
    ),
    "torchtitan with torchft": Layout(
        {"checkpoint/step-{s}": FULL, "checkpoint/ft-replicat-0/step-{s}": DATA},
        {"checkpoint": ["step-10", "step-5"]},
        (".",),
    ),
    "torchtune": Layout({"epoch_{e}": FULL}, {"": ["epoch_1", "epoch_0"]}, (".",)),
    "OLMo-core": Layout(
        {"step{s}/model_and_optim": FULL}, {"": ["step10", "step5"]}, ("model_and_optim",)
    ),
    "lingua": Layout(
        {"checkpoints/00000000{s:02}": FULL},
        {"checkpoints": ["0000000010", "0000000005"]},
        (".",),
        files={"checkpoints/00000000{s:02}/train_state_00000.json": '{"step": {s}}'},
    ),
    "Megatron-LM": Layout(
        {"iter_00000{s:02}": FULL},
        {"": ["iter_0000010", "iter_0000005"]},
        (".",),
        files={"latest_checkpointed_iteration.txt": "10"},
    ),
    "NeMo 2": Layout(
        {"default/2026-07-12_10-11-12/checkpoints/m--val_loss=2.33-step={s}-"
         "consumed_samples={s}0.0/weights": FULL},
        {"default/2026-07-12_10-11-12/checkpoints": [
            "m--val_loss=2.33-step=10-consumed_samples=100.0",
            "m--val_loss=2.33-step=5-consumed_samples=50.0",
        ]},
        ("weights",),
    ),
    "NeMo Automodel": Layout(
        {"epoch_0_step_{s}/model": MODEL, "epoch_0_step_{s}/optim": OPTIM}
        | {"epoch_0_step_{s}/model/consolidated": EXPORT},
        {"": ["epoch_0_step_10", "epoch_0_step_5"]},
        ("model", "optim"),
    ),
    "verl": Layout(
        {f"proj/exp/global_step_{{s}}/{who}/dist_ckpt": FULL for who in ("actor", "critic")},
        {"proj/exp": ["global_step_10", "global_step_5"]},
        ("actor/dist_ckpt", "critic/dist_ckpt"),
    ),
    "VeOmni": Layout(
        {f"checkpoints/global_step_{{s}}/{part}": part for part in (MODEL, "optimizer")}
        | {"checkpoints/global_step_{s}/extra_state": DATA},
        {"checkpoints": ["global_step_10", "global_step_5"]},
        ("extra_state", "model", "optimizer"),
    ),
    "SkyRL": Layout(
        {"ckpts/global_step_{s}/policy": FULL, "ckpts/global_step_{s}/critic": FULL},
        {"ckpts": ["global_step_10", "global_step_5"]},
        ("critic", "policy"),
    ),
    "AReaL": Layout(
        {"checkpoints/root/exp/trial/recover/default/epoch{e}epochstep{s}globalstep{s}": FULL},
        {"checkpoints/root/exp/trial/recover/default": [
            "epoch1epochstep10globalstep10", "epoch0epochstep5globalstep5",
        ]},
        (".",),
    ),
    "slime": Layout(
        {"iter_00000{s:02}": FULL}, {"": ["iter_0000010", "iter_0000005"]}, (".",),
        files={"rollout/global_dataset_state_dict_{s}.pt": ""},
    ),
    "cosmos-rl": Layout(
        {"20260712101112/checkpoints/step_{s}/policy": FULL}
        | {"20260712101112/safetensors/step_{s}": EXPORT},
        {"20260712101112/checkpoints": ["step_10", "step_5"]}
        | {"20260712101112/safetensors": ["step_10", "step_5"]},
        ("policy",),
    ),
    "prime-rl": Layout(
        {"checkpoints/step_{s}/trainer": FULL, "weights/step_{s}": EXPORT},
        {"checkpoints": ["step_10", "step_5"], "weights": ["step_10", "step_5"]},
        ("trainer",),
    ),
    "ms-swift": Layout(
        {"v0-20260712-101112/checkpoint-{s}/iter_00000{s:02}": FULL},
        {"v0-20260712-101112": ["checkpoint-10", "checkpoint-5"]},
        ("iter_0000010",),
    ),
    "Ray Train": Layout(
        {"exp/TorchTrainer_a1b2c_00000_0_2026-07-12_10-11-12/checkpoint_00000{e}/dcp": FULL},
        {"exp/TorchTrainer_a1b2c_00000_0_2026-07-12_10-11-12": [
            "checkpoint_000001", "checkpoint_000000",
        ]},
        ("dcp",),
    ),
    "Ray Train, dated": Layout(
        {"checkpoint_2026-07-1{e}_10-11-12.123456": FULL},
        {"": ["checkpoint_2026-07-11_10-11-12.123456", "checkpoint_2026-07-10_10-11-12.123456"]},
        (".",),
    ),
    "fms-fsdp": Layout(
        {"checkpoints/step_{s}_ckp": FULL}, {"checkpoints": ["step_10_ckp", "step_5_ckp"]}, (".",)
    ),
    "dinov3": Layout(
        {"ckpt/{s}": FULL}, {"ckpt": ["10", "5"]}, (".",)
    ),
    "FastGen": Layout(
        {"00000{s:02}.net_model": MODEL, "00000{s:02}.net_optim": OPTIM},
        {"": ["0000010", "0000005"]},
        ("../0000010.net_model", "../0000010.net_optim"),
    ),
    "by epoch, steps from the start of each": Layout(
        {"epoch_{e}/batch_{s}": FULL, "epoch_{e}/batch_{s}0": FULL},
        {"": [
            "epoch_1/batch_100", "epoch_1/batch_10", "epoch_0/batch_50", "epoch_0/batch_5",
        ]},
        (".",),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """A checkpoint of each kind and step."""
    root = tmp_path_factory.mktemp("drafts")
    made = {}
    for step in STEPS:
        for kind, draft in _drafts(step):
            made[kind, step] = root / f"{kind}-{step}"
            draft.write(made[kind, step])
        made[EXPORT, step] = root / f"export-{step}"
        made[EXPORT, step].mkdir()
        _write_safetensors(made[EXPORT, step] / "model.safetensors")
    return made


def _drafts(step: int) -> Iterator[tuple[str, Draft]]:
    for mark in ("", "0", "1"):
        names = (f"layers.{mark}.weight", f"head{mark}.weight")
        yield f"{FULL}{mark}", adamw(*names, step=step)
        for kind, root in ((MODEL, "model."), (OPTIM, "optimizer.")):
            half = adamw(*names, step=step)
            for fqn in [fqn for fqn in half.entries if not fqn.startswith(root)]:
                forget(half, fqn)
            yield f"{kind}{mark}", half
            if kind == OPTIM:
                yield f"optimizer{mark}", half
    data = Draft()
    data.value("dataloader.dp_rank_0", value_of({"read": step}))
    yield DATA, data


def _write_safetensors(path: Path) -> None:
    head = json.dumps({"head.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    path.write_bytes(len(head).to_bytes(8, "little") + head.encode() + bytes(4))


def build(layout: Layout, root: Path, drafts: dict[tuple[str, int], Path]) -> None:
    """Make a framework's tree."""
    for epoch, step in enumerate(STEPS):
        for template, kind in layout.holds.items():
            where = root / template.format(s=step, e=epoch)
            shutil.copytree(drafts[kind, step], where, dirs_exist_ok=True)
        for template, text in layout.files.items():
            where = root / template.format(s=step, e=epoch)
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(text.replace("{s}", str(step)))
    for link, target in layout.links.items():
        (root / link).symlink_to(target)


def shown(found: Found) -> dict[str, list[str]]:
    root = found.path
    return {
        run.path.relative_to(root).as_posix().removeprefix("."): [
            save.path.relative_to(run.path).as_posix().removeprefix(".") for save in run.saves
        ]
        for run in found.runs
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_trees_of_frameworks(
    name: str, tmp_path: Path, drafts: dict[tuple[str, int], Path]
) -> None:
    layout = LAYOUTS[name]
    build(layout, tmp_path, drafts)
    found = look(tmp_path)
    assert found.save is None
    assert shown(found) == layout.runs
    newest = found.runs[0].saves[0]
    assert (
        tuple(
            Path(
                *("..",) * (not newest.path.exists()),
                part.relative_to(newest.path if newest.path.exists() else newest.path.parent),
            ).as_posix()
            for part in newest.parts
        )
        == layout.parts
    )
    for save in found.saves:
        with open_checkpoint(save.path) as checkpoint:
            assert len(checkpoint.parts) == len(save.parts)


def test_links_are_no_second_save(tmp_path: Path, drafts: dict[tuple[str, int], Path]) -> None:
    build(LAYOUTS["Composer"], tmp_path, drafts)
    newest, older = look(tmp_path).runs[0].saves
    assert ([link.name for link in newest.links], older.links) == (["latest"], ())


def test_of_links_to_one_save_elsewhere_the_one_with_a_step_is_it(
    tmp_path: Path, drafts: dict[tuple[str, int], Path]
) -> None:
    (tmp_path / "run").mkdir()
    for name, step in (("latest", 10), ("step-10", 10), ("step-5", 5)):
        (tmp_path / "run" / name).symlink_to(drafts[FULL, step])
    newest, older = look(tmp_path / "run").runs[0].saves
    assert (newest.path.name, older.path.name) == ("step-10", "step-5")
    assert [link.name for link in newest.links] == ["latest"]


def test_parts_of_one_step_beside_the_state_of_the_job(
    tmp_path: Path, drafts: dict[tuple[str, int], Path]
) -> None:
    """A copy of `global_step_10` under a name of its own: `final/actor`, `final/critic`."""
    for name in ("actor", "critic"):
        shutil.copytree(drafts[FULL, 10], tmp_path / "final" / name)
    assert len(look(tmp_path / "final").runs) == 2  # or the ends of two jobs
    (tmp_path / "final" / "data.pt").write_bytes(b"")
    assert look(tmp_path / "final").save is not None
    with open_checkpoint(tmp_path / "final") as checkpoint:
        optimizers = OptimizerView(checkpoint).optimizers
    assert [raw.root for raw in optimizers] == ["optimizer", "critic/optimizer"]


def test_two_jobs_side_by_side_are_two_runs(
    tmp_path: Path, drafts: dict[tuple[str, int], Path]
) -> None:
    """Different models, whole each, are not parts of one save though no key is in both."""
    shutil.copytree(drafts[f"{FULL}0", 5], tmp_path / "vision")
    shutil.copytree(drafts[f"{FULL}1", 10], tmp_path / "text")
    found = look(tmp_path)
    assert [run.path.name for run in found.runs] == ["text", "vision"]
    for step in STEPS:
        shutil.copytree(drafts[FULL, step], tmp_path / "runs" / f"exp_{step}")
    found = look(tmp_path / "runs")
    assert [save.path.name for save in found.runs[0].saves] == ["exp_10", "exp_5"]
