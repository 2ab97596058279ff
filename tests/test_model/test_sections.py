from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from dcpctl.model.sections import classify, is_buffer
from tests.test_model.fakes import from_expected, from_state_dict, scalar, tensor

GROUP = {"lr": 1e-3, "betas": (0.9, 0.95), "params": ["model.embed.weight", "head.weight"]}
STATE = {
    name: {"step": scalar(3), "exp_avg": tensor(4, 2), "exp_avg_sq": tensor(4, 2)}
    for name in ("model.embed.weight", "head.weight")
}


def sections_of(state_dict: dict[str, Any], *, planner: bool = True) -> dict[str, str]:
    return dict(classify(from_state_dict(state_dict, planner=planner)).of)


def test_every_section_by_its_name() -> None:
    found = sections_of(
        {
            "model": {"w": tensor(2, 2), "extra._extra_state": b"x"},
            "optimizer": {"state": {"w": {"exp_avg": tensor(2, 2)}}, "param_groups": [GROUP]},
            "lr_scheduler": {"last_epoch": 3},
            "opt_param_scheduler": {"num_steps": 3},
            "dataloader": {"dp_rank_0": b"..."},
            "train_sampler": {"seed": 1},
            "rng_state": {"cpu": tensor(16, dtype="uint8")},
            "cuda_rng_state_all": [tensor(16, dtype="uint8")],
            "random_states": b"x",
            "train_state": {"step": tensor(dtype="int32")},
            "step": 3,
        }
    )
    sections: dict[str, set[str]] = {}
    for fqn, section in found.items():
        sections.setdefault(section, set()).add(fqn.split(".")[0])
    assert sections == {
        "model": {"model"},
        "optimizer": {"optimizer"},
        "scheduler": {"lr_scheduler", "opt_param_scheduler"},
        "dataloader": {"dataloader", "train_sampler"},
        "rng": {"rng_state", "cuda_rng_state_all", "random_states"},
        "other": {"train_state", "step"},
    }


def test_torchtitan_keeps_the_model_at_top_level_although_names_begin_with_model() -> None:
    flat = {f"state.{name}.{slot}": v for name, s in STATE.items() for slot, v in s.items()}
    checkpoint = from_state_dict(
        {
            "model.embed.weight": tensor(4, 2),
            "head.weight": tensor(4, 2),
            "seen": tensor(dtype="int64"),
            "optimizer": flat,
            "train_state": {"step": 3},
        }
    )
    sections = classify(checkpoint)
    assert sections.model_root == ""
    assert dict(sections.model) == {
        "model.embed.weight": "model.embed.weight",
        "head.weight": "head.weight",
        "seen": "seen",
    }
    assert sections.of["train_state.step"] == "other"
    assert sections.members("optimizer") == tuple(f"optimizer.{key}" for key in flat)


def test_the_model_root_is_where_the_trained_names_are() -> None:
    optimizer = {"state": STATE, "param_groups": [GROUP]}
    for root in ("model", "state_dict", "net"):
        model = {"model.embed.weight": tensor(4, 2), "head.weight": tensor(4, 2)}
        sections = classify(from_state_dict({root: model, "optimizer": optimizer}))
        assert sections.model_root == root
        assert sections.model["head.weight"] == f"{root}.head.weight"


def test_an_app_state_has_a_root_of_two_components() -> None:
    model = {"model.embed.weight": tensor(4, 2), "head.weight": tensor(4, 2)}
    app = {"model": model, "optim": {"state": STATE, "param_groups": [GROUP]}}
    sections = classify(from_state_dict({"app": app}))
    assert sections.model_root == "app.model"
    assert [raw.root for raw in sections.optimizers] == ["app.optim"]


def test_a_model_without_root_and_optimizer_is_the_whole_checkpoint() -> None:
    found = sections_of({"model.embed.weight": tensor(4, 2), "lm_head.weight": tensor(4, 2)})
    assert set(found.values()) == {"model"}
    sections = classify(from_state_dict({"layers.0.weight": tensor(4, 2), "inv": tensor(2)}))
    assert dict(sections.model) == {"layers.0.weight": "layers.0.weight", "inv": "inv"}


def test_tensors_that_are_nothing_of_a_model_are_other() -> None:
    found = sections_of({"zoo": {"scalar.f32": tensor(), "two_d.8x12": tensor(8, 12)}})
    assert set(found.values()) == {"other"}
    model = {"w": tensor(2, 2)}
    assert sections_of({"model": model, "list": [tensor(3), tensor(4)]})["list.0"] == "other"


def test_a_second_copy_of_the_names_does_not_hide_the_model(shared: Path) -> None:
    path = shared / "checkpoints/2.13.0/wrapped_names_single/expected.json"
    sections = classify(from_expected(path))
    assert sections.model_root == "model"
    assert len(sections.model) == 22
    assert sections.model["layers.0.attention.wq.weight"] == (
        "model._orig_mod.layers.0.attention.wq.weight"
    )
    assert Counter(sections.of.values()) == {"model": 43, "optimizer": 87}


def test_megatron_has_its_model_at_top_level_and_slots_before_names() -> None:
    found = sections_of(
        {
            "decoder.layers.mlp.weight": tensor(2, 4, 2),
            "decoder.layers.mlp._extra_state/shard_0_2": None,
            "optimizer.state.exp_avg.decoder.layers.mlp.weight": tensor(2, 4, 2),
            "optimizer.state.exp_avg_sq.decoder.layers.mlp.weight": tensor(2, 4, 2),
            "rng_state/shard_0_2": None,
        },
        planner=False,
    )
    assert list(found.values()) == ["model", "model", "optimizer", "optimizer", "rng"]


def test_buffers_by_name_and_by_dtype() -> None:
    names = ("rope_inv_freq", "bn.running_mean", "bn.num_batches_tracked", "a.causal_mask")
    assert all(is_buffer(name, tensor(4)) for name in names)
    assert is_buffer("seen", tensor(dtype="int64"))
    assert is_buffer("flag", tensor(dtype="bool"))
    assert not is_buffer("layers.0.weight", tensor(4, 4, dtype="bfloat16"))
    assert not is_buffer("masked_lm.weight", tensor(4, 4, dtype="float8_e4m3fn"))


def test_a_scheduler_is_told_by_what_it_counts_in() -> None:
    found = sections_of(
        {
            "policy": {"w": tensor(2, 2)},
            "policy_lr": {"last_epoch": 7, "_step_count": 8, "base_lrs": [0.1]},
            "meta": {"last_epoch": 3},
        }
    )
    assert {fqn for fqn, section in found.items() if section == "scheduler"} == {
        fqn for fqn in found if fqn.startswith("policy_lr.")
    }
