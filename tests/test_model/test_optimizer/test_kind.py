from __future__ import annotations

import pytest

from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.kind import tell_kind
from tests.test_model.test_optimizer.jobs import ADAM_ORDER, ADAMW_26_ORDER

ADAM_SLOTS = frozenset({"step", "exp_avg", "exp_avg_sq"})


@pytest.mark.parametrize("name", sorted(catalogue().torch))
def test_every_torch_optimizer_of_every_release_by_its_group_keys(name: str) -> None:
    optimizer = catalogue().torch[name]
    for release in catalogue().releases[catalogue().releases.index(optimizer.first) :]:
        keys = optimizer.keys_at(release)
        values = {"decoupled_weight_decay": name == "AdamW"}
        kind = tell_kind(keys, frozenset(optimizer.slots), values)
        assert (kind.name, kind.candidates) == (name, (name,)), release
        assert kind.rules == optimizer.slots


def test_adam_and_adamw_by_the_value_from_2_7_on() -> None:
    keys = [*ADAM_ORDER.split(), "decoupled_weight_decay", "initial_lr"]
    for value, name in ((True, "AdamW"), (False, "Adam")):
        kind = tell_kind(keys, ADAM_SLOTS, {"decoupled_weight_decay": value})
        assert kind.name == name
        assert kind.how == (
            f"the group keys are those of torch since 2.7's {name}, "
            f"decoupled_weight_decay is {value}"
        )


def test_adam_and_adamw_by_the_order_of_keys_before_2_7() -> None:
    for order, name in ((ADAM_ORDER, "Adam"), (ADAMW_26_ORDER, "AdamW")):
        moved = ["weight_decay", *[key for key in order.split() if key != "weight_decay"]]
        for keys in (order.split(), moved):
            kind = tell_kind(keys, ADAM_SLOTS, {})
            assert kind.candidates == (name,)
            assert "before 2.7 only the order tells" in kind.how


def test_adam_and_adamw_stay_ambiguous_where_nothing_tells() -> None:
    kind = tell_kind(sorted(ADAM_ORDER.split()), ADAM_SLOTS, {})
    assert kind.name == "Adam or AdamW"
    assert kind.candidates == ("Adam", "AdamW")
    assert "which differ only in decoupled_weight_decay (2.7)" in kind.how
    kind = tell_kind(["foreach", "fused", *ADAM_ORDER.split()[:4], "amsgrad", "maximize",
                      "capturable", "differentiable"], ADAM_SLOTS, {})  # fmt: skip
    assert kind.name == "Adam or AdamW"


@pytest.mark.parametrize(
    ("keys", "slots", "name"),
    [
        ("lr betas weight_decay", "exp_avg", "Lion"),
        ("", "exp_avg", "Lion"),
        ("", "exp_avg exp_avg_sq", "Adam or AdamW"),
        ("", "step exp_avg exp_avg_sq fp32_param", "Adam or AdamW"),
        ("", "momentum_buffer", "SGD or Muon"),
        ("lr betas eps weight_decay", "step exp_avg exp_avg_sq", "Adam or AdamW"),
        ("lr betas eps weight_decay amsgrad", "step exp_avg exp_avg_sq", "Adam or AdamW"),
        (
            "lr betas shampoo_beta eps weight_decay precondition_frequency max_precond_dim",
            "step exp_avg exp_avg_sq GG Q",
            "SOAP",
        ),
        (
            "lr betas epsilon max_preconditioner_dim precondition_frequency",
            "step block_0",
            "Distributed Shampoo",
        ),
        ("lr momentum weight_decay", "step precond_0 inv_precond_0", "Shampoo"),
        ("lr betas eps weight_decay alpha", "state1 state2", "Adam or AdamW (bitsandbytes)"),
        (
            "lr betas eps weight_decay alpha t_alpha t_beta3",
            "step state1 state2 qmap1 qmap2 absmax1 absmax2",
            "8-bit Adam or AdamW (bitsandbytes)",
        ),
        (
            "lr betas eps weight_decay decoupled_weight_decay master_bytewidth",
            "step exp_avg::quantized exp_avg::scales exp_avg_sq::quantized exp_avg_sq::scales",
            "8-bit FlashAdam or FlashAdamW",
        ),
        ("lr betas weight_decay master_bytewidth quantize", "exp_avg error_bits", "FlashLion"),
        (
            "lr mu beta1 beta2 weight_decay algorithm step epsilon nesterov flatten adjust_lr",
            "momentum variance",
            "Muon (Dion)",
        ),
        (
            "lr mu muon_beta2 beta1 beta2 weight_decay algorithm step epsilon nesterov adjust_lr",
            "momentum variance_neuron",
            "NorMuon (Dion)",
        ),
        (
            "lr betas eps r k train_mode weight_sum lr_max weight_lr_power silent_sgd_phase",
            "z exp_avg_sq",
            "RAdamScheduleFree",
        ),
        ("lr", "momentum1", "TorchRec's fused optimizer"),
        (
            "lr eps clip_threshold decay_rate beta1 weight_decay scale_parameter relative_step",
            "step exp_avg_sq_row exp_avg_sq_col exp_avg_sq RMS",
            "Adafactor (Hugging Face)",
        ),
        (
            "lr betas eps r k warmup_steps train_mode weight_sum lr_max weight_lr_power",
            "z exp_avg_sq",
            "AdamWScheduleFree",
        ),
        ("lr betas eps weight_decay bias_correction step", "exp_avg exp_avg_sq", "FusedAdam"),
        ("lr momentum nesterov ns_steps", "momentum_buffer", "Muon (not torch's)"),
        ("lr betas eps weight_decay", "step m vmean", "Adam-mini"),
        ("lr unheard_of", "also_unheard_of", None),
        ("lr unheard_of", "", None),
        ("", "", None),
    ],
)
def test_optimizers_from_elsewhere_and_from_slots_alone(
    keys: str, slots: str, name: str | None
) -> None:
    assert tell_kind(keys.split(), frozenset(slots.split()), {}).name == name


def test_olmo_cores_own_adamw_is_known_by_its_root() -> None:
    keys = ["lr", "betas", "eps", "weight_decay"]
    kind = tell_kind(keys, ADAM_SLOTS, {}, "optim")
    assert (kind.name, kind.candidates) == ("SkipStepAdamW", ("SkipStepAdamW", "AdamW"))
    assert "OLMo-core" in kind.how


def test_keys_of_ones_own_beside_torchs() -> None:
    keys = [*ADAM_ORDER.split(), "decoupled_weight_decay", "layer_scale"]
    kind = tell_kind(keys, ADAM_SLOTS, {"decoupled_weight_decay": True})
    assert kind.name == "AdamW"
    assert kind.how.endswith("layer_scale is not torch's")
    assert kind.rules is None


KEYS = ["lr", "betas", "eps", "weight_decay", "amsgrad"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("OptimState8bit", "8-bit Adam or AdamW (torchao)"),
        ("OptimState4bit", "4-bit Adam or AdamW (torchao)"),
        ("OptimStateFp8", "fp8 Adam or AdamW (torchao)"),
    ],
)
def test_torchaos_adam_is_told_by_the_class_of_its_state(kind: str, name: str) -> None:
    found = tell_kind(KEYS, ADAM_SLOTS, {}, classes=frozenset({kind}))
    assert (found.name, found.torch) == (name, ())
    assert f"state tensors of class {kind}" in found.how


def test_lion_of_bitsandbytes_is_told_by_its_betas() -> None:
    keys, slots = ["lr", "betas", "eps", "weight_decay"], frozenset({"step", "state1", "qmap1"})
    assert tell_kind(keys, slots, {"betas": (0.9, 0.99)}).name == "8-bit Lion (bitsandbytes)"
    sgd = tell_kind(keys, slots, {"betas": (0.9, 0)})
    assert sgd.name == "SGD, RMSprop or Adagrad (bitsandbytes)"
    slots = frozenset({"step", "state1", "state2"})
    mix = tell_kind([*keys, "alpha"], slots, {"betas": (0.9, 0.999, 0.9999)})
    assert mix.name == "AdEMAMix (bitsandbytes)"


def test_group_keys_without_any_of_torchs_own_are_another_optimizers() -> None:
    assert tell_kind(KEYS, ADAM_SLOTS, {}).foreign
    assert not tell_kind([*KEYS, "foreach"], ADAM_SLOTS, {}).foreign
    assert not tell_kind([], ADAM_SLOTS, {}).foreign


def test_adamw_without_some_of_its_keys_is_no_smaller_optimizer_of_torch() -> None:
    keys = [
        "lr",
        "betas",
        "eps",
        "weight_decay",
        "amsgrad",
        "maximize",
        "decoupled_weight_decay",
        "rho",
    ]
    kind = tell_kind(keys, ADAM_SLOTS | {"norm"}, {"decoupled_weight_decay": True})
    assert kind.name is None  # SparseAdam's keys are among them, and AdamW's are not all
    assert "no optimizer known" in kind.how
