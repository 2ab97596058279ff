from __future__ import annotations

import inspect
import math

import pytest

from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.optimizer.ranges import Interval, impossible
from dcpctl.model.values import Unknown


def wrong(values: dict[str, object], *candidates: str) -> dict[str, str]:
    return {found.key: found.why for found in impossible(values, candidates)}


def test_intervals_know_their_ends() -> None:
    closed, opened = Interval(0, True, 1, True), Interval(0, False, 1, False)
    assert [closed.holds(x) for x in (-0.1, -1e-17, 0, 0.5, 1, 1.1, math.nan)] == [
        *(False, True, True, True, True, False, False)
    ]
    assert [opened.holds(x) for x in (0, 1e-17, 0.5, 1)] == [False, True, True, False]
    assert (str(closed), str(Interval(0, True, math.inf, False))) == ("[0, 1]", "[0, inf)")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("AdamW", {"lr": -1e-3}),
        ("AdamW", {"betas": (0.9, 1.0)}),
        ("Adam", {"betas": [1.5, 0.999]}),
        ("AdamW", {"eps": -1e-8}),
        ("AdamW", {"weight_decay": -0.1}),
        ("SGD", {"momentum": -0.9}),
        ("SparseAdam", {"lr": 0.0}),
        ("Rprop", {"etas": (0.5, 0.9)}),
        ("Adadelta", {"rho": 1.1}),
    ],
)
def test_what_the_constructor_refuses(name: str, values: dict[str, object]) -> None:
    (key,) = values
    assert wrong(values, name)[key].startswith(f"{name} accepts ")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["AdamW", "Lion", ""])
def test_what_is_not_finite_is_nobodys(name: str, value: float) -> None:
    assert wrong({"lr": value, "betas": (0.9, value)}, *filter(None, [name])) == {
        "lr": "it is not finite",
        "betas": "it is not finite",
    }


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert wrong({"lr": -1.0, "betas": (2.0, 3.0)}, "Lion") == {}
    assert wrong({"max_grad_norm": math.inf, "lr": None, "eps": True}, "AdamW") == {}
    assert wrong({"lr": Unknown("optimizer.lr", "gone"), "betas": "x"}, "AdamW") == {}
    assert wrong({"lr": 0.0}, "SparseAdam", "Adam") == {}  # Adam would accept it


def test_the_data_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.ones(4, 3))
    tried = 0
    for name in catalogue().torch:
        cls = getattr(torch.optim, name, None)
        if cls is None:
            continue
        defaults = cls([parameter], **({"lr": 0.1} if name == "SGD" else {})).defaults
        assert wrong(defaults, name) == {}
        for key in set(defaults) & set(inspect.signature(cls).parameters):
            for value in (-2.0, -1e-3, 0.0, 0.5, 1.0, 2.0):
                if not isinstance(defaults[key], float):
                    continue
                tried += 1
                refused = False
                try:
                    cls([parameter], **({"lr": 0.1} | {key: value}))
                except ValueError:
                    refused = True
                assert bool(wrong({key: value}, name)) is refused, (name, key, value)
    assert tried > 200
