from __future__ import annotations

import pytest

from dcpctl.model.fqn import (
    common_prefixes,
    is_flat_parameter,
    object_path,
    strip_wrappers,
    wrappers_in,
)


def test_the_planner_data_are_the_truth_about_dotted_keys() -> None:
    planner = {"dotted.key.with.dot": ("dotted.key", "with.dot"), "a.0.b": ("a", 0, "b")}
    assert object_path("dotted.key.with.dot", planner) == ("dotted.key", "with.dot")
    assert object_path("a.0.b", planner) == ("a", 0, "b")
    assert object_path("a.b", planner) == ("a", "b")
    assert object_path("a.0.b", None) == ("a", "0", "b")


@pytest.mark.parametrize(
    ("fqn", "expected"),
    [
        ("model.layers.0.weight", ()),
        ("model._orig_mod.layers.0.weight", ("_orig_mod",)),
        (
            "model.layers.0._orig_mod._checkpoint_wrapped_module.w",
            ("_orig_mod", "_checkpoint_wrapped_module"),
        ),
        (
            "optimizer.state._fsdp_wrapped_module.l._fsdp_wrapped_module.w.exp_avg",
            ("_fsdp_wrapped_module",),
        ),
        ("module.layers.0.weight", ("module",)),
        ("model.module.layers.0.weight", ("module",)),
        ("optimizer.state.module.w.step", ("module",)),
        ("model.layers.module.weight", ()),
        ("module", ()),
    ],
)
def test_wrapper_names_that_leaked(fqn: str, expected: tuple[str, ...]) -> None:
    assert wrappers_in(fqn) == expected


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("layers.0.weight", "layers.0.weight"),
        ("_orig_mod.module.layers.0._checkpoint_wrapped_module.w", "layers.0.w"),
        ("module.module.w", "w"),
        ("layers.module.w", "layers.module.w"),
        ("module", "module"),
        ("wq.weight_g", "wq.weight_g"),
    ],
)
def test_names_without_wrappers_are_the_same_however_a_model_is_wrapped(
    name: str, stripped: str
) -> None:
    assert strip_wrappers(name) == stripped


def test_flat_parameters_of_fsdp1() -> None:
    assert is_flat_parameter("model._fsdp_wrapped_module._flat_param")
    assert is_flat_parameter("optimizer.state.layers.0._flat_param.exp_avg")
    assert not is_flat_parameter("model.flat_params.weight")


def test_names_are_shortened_by_module() -> None:
    names = ("layers.0.wq.weight", "layers.0.wk.weight", "norm.weight", "layers.1.wq.weight", "b")
    assert common_prefixes(names) == ("layers.0.*", "norm.weight", "layers.1.wq.weight", "b")
