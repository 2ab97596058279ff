"""Make `dcpctl/_data/optimizers.json`: what every torch.optim optimizer keeps, release by release.

Two sources. `--catalogue FILE` reads a catalogue that was made by constructing every optimizer
under many torch releases (release -> optimizer -> `defaults`, `state_detail`). `--installed`
does the same with the torch of this Python and adds its release to the file that is there, which
is how a new torch release gets in:

    python -m tools.make_optimizer_data --catalogue optimizers_by_release.json
    python -m tools.make_optimizer_data --installed

Written per optimizer: `keys` (group key -> [[release, default], ...] for the release that has the
key first and every later one that changed its default), `order` (the order of the group keys,
likewise; it tells Adam from AdamW before 2.7), `slots` (state slot -> rule) and `global_state`.
A rule has `shape` (`param`, `scalar` or `other`) and, where they apply, `when` (the slot is kept
only where these group keys are truthy), `min_ndim`/`max_ndim` (only for parameters with so many
dimensions) and `optional` (may be missing without anything being lost).

`--installed` also writes `dcpctl/_data/optimizer_ranges.json`: optimizer -> group key -> the
interval of numbers that the constructor accepts, such as `[0, 1)`; a list of them where the value
is a tuple whose members differ. They are found by trying: each number around -1, 0, 1 and far out
is given to the constructor, which raises ValueError for what it refuses.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "dcpctl" / "_data" / "optimizers.json"
RANGES = TARGET.with_name("optimizer_ranges.json")

REQUIRED = {"__required__": True}
# One state for all parameters, kept under the first of them.
GLOBAL_STATE = ("LBFGS",)
# torch/optim/lbfgs.py makes it in the second iteration.
OPTIONAL_SLOTS = {("LBFGS", "al")}
# Constructor arguments that switch state on; each set is tried where an optimizer accepts it.
VARIANTS: tuple[dict[str, object], ...] = (
    {"amsgrad": True},
    {"momentum": 0.9},
    {"centered": True},
)
MATRIX, VECTOR = (4, 3), (5,)

Detail = dict[str, dict[str, dict[str, dict[str, Any]]]]


def version_key(release: str) -> tuple[int, ...]:
    """Return `2.10.0` as `(2, 10, 0)`."""
    return tuple(int(part) for part in release.split("+")[0].split(".")[:3])


def slot_shape(detail: dict[str, Any], parameter: str) -> str:
    """Say whether a slot has its parameter's shape, none, or another one."""
    shape = detail.get("shape")
    if shape is None or shape == []:
        return "other" if detail.get("type") == "list" else "scalar"
    wanted = list(MATRIX if parameter == "0" else VECTOR)
    return "param" if shape == wanted else "other"


def slot_rules(name: str, details: Detail) -> dict[str, dict[str, Any]]:
    """Derive the rule of every slot from the states that the variants of one optimizer left."""
    rules: dict[str, dict[str, Any]] = {}
    for variant in sorted(details, key=lambda v: (v != "default", len(v))):
        for parameter, slots in details[variant].items():
            for slot, detail in slots.items():
                rule = rules.setdefault(slot, {"_in": []})
                rule["_in"].append((variant, parameter))
                rule.setdefault("shape", slot_shape(detail, parameter))
    for slot, rule in rules.items():
        found = rule.pop("_in")
        variants = [variant for variant, _ in found]
        if "default" not in variants:
            rule["when"] = sorted(json.loads(variants[0]))
        parameters = {parameter for _, parameter in found}
        if name not in GLOBAL_STATE and len(parameters) == 1:
            rule.update({"min_ndim": 2} if parameters == {"0"} else {"max_ndim": 1})
        if (name, slot) in OPTIONAL_SLOTS:
            rule["optional"] = True
        if name in GLOBAL_STATE:
            rule["shape"] = "other" if rule["shape"] == "param" else rule["shape"]
    return rules


def history(values: list[tuple[str, Any]]) -> list[list[Any]]:
    """Keep of (release, value) pairs in order of release the first and each that differs."""
    kept: list[list[Any]] = []
    for release, value in values:
        if not kept or kept[-1][1] != value or type(kept[-1][1]) is not type(value):
            kept.append([release, value])
    return kept


def decode(value: Any) -> Any:
    """Write a required key as `{"__required__": true}`; everything else stays."""
    return REQUIRED if value == "<required>" else value


def build(catalogue: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Turn release -> optimizer -> facts around into optimizer -> histories."""
    releases = sorted(catalogue, key=version_key)
    names = list(dict.fromkeys(name for release in releases for name in catalogue[release]))
    optimizers: dict[str, Any] = {}
    for name in names:
        having = [release for release in releases if name in catalogue[release]]
        keys: dict[str, list[tuple[str, Any]]] = {}
        order: list[tuple[str, Any]] = []
        details: Detail = {}
        for release in having:
            facts = catalogue[release][name]
            for key, default in facts["defaults"].items():
                keys.setdefault(key, []).append((release, decode(default)))
            order.append((release, list(facts["defaults_order"])))
            details |= facts["state_detail"]
        optimizers[name] = {
            "first": having[0],
            "keys": {key: history(values) for key, values in keys.items()},
            "order": history(order),
            "slots": slot_rules(name, details),
            "global_state": name in GLOBAL_STATE,
        }
    return {"releases": releases, "optimizers": optimizers}


def jsonable(value: Any) -> Any:
    """Return a default as JSON; a tuple as `{"__tuple__": [...]}`."""
    if isinstance(value, tuple):
        return {"__tuple__": [jsonable(item) for item in value]}
    return value


def describe(value: Any) -> dict[str, Any]:
    """Say of one state value its type, and of a tensor its shape."""
    if hasattr(value, "shape"):
        return {"type": "tensor", "shape": list(value.shape)}
    return {"type": type(value).__name__, "shape": None}


def observe(torch: Any, name: str, variant: dict[str, object]) -> tuple[Any, dict[str, Any]]:
    """Construct an optimizer, take two steps, and return it with the state that it keeps."""
    matrix = torch.nn.Parameter(torch.ones(MATRIX))
    vector = torch.nn.Parameter(torch.ones(VECTOR))
    parameters = [matrix] if name == "Muon" else [matrix, vector]
    options = {"lr": 0.1} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(parameters, **options, **variant)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = sum(((p - 0.5) ** 2).sum() for p in parameters)
        loss.backward()
        if name == "SparseAdam":
            for parameter in parameters:
                parameter.grad = parameter.grad.to_sparse()
        return loss

    for _ in range(2):
        if name == "LBFGS":
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    state = optimizer.state_dict()["state"]
    kept = {
        str(index): {slot: describe(value) for slot, value in slots.items() if value is not None}
        for index, slots in state.items()
    }
    return optimizer, kept


def observe_installed() -> tuple[str, dict[str, dict[str, Any]]]:
    """Read the installed torch: its release, and optimizer -> facts like a catalogue's."""
    import torch

    found: dict[str, dict[str, Any]] = {}
    for name, _ in _optimizers(torch):
        optimizer, state = observe(torch, name, {})
        details = {"default": state}
        for variant in VARIANTS:
            if all(key in optimizer.defaults for key in variant) and name != "Muon":
                details[json.dumps(variant)] = observe(torch, name, variant)[1]
        found[name] = {
            "defaults": {key: jsonable(value) for key, value in optimizer.defaults.items()},
            "defaults_order": list(optimizer.defaults),
            "state_detail": details,
        }
    return torch.__version__.split("+")[0], found


def accepted_ranges(torch: Any) -> dict[str, dict[str, Any]]:
    """Return optimizer -> group key -> interval that its constructor accepts."""
    found: dict[str, dict[str, Any]] = {}
    for name, cls in _optimizers(torch):
        parameter = torch.nn.Parameter(torch.ones(MATRIX))
        made = cls([parameter], **({"lr": 0.1} if name == "SGD" else {}))
        ranges = {}
        for key, default in made.defaults.items():
            if key in inspect.signature(cls).parameters:
                interval = _interval_of(cls, parameter, key, default)
                if interval is not None:
                    ranges[key] = interval
        found[name] = ranges
    return found


def _interval_of(cls: Any, parameter: Any, key: str, default: Any) -> Any:
    """The interval of a number, or those of a tuple's members; None for what is none."""

    def accepts(value: Any) -> bool:
        try:
            cls([parameter], **({"lr": 0.1} | {key: value}))
        except ValueError:
            return False
        return True

    if isinstance(default, tuple):
        several = []
        for index, member in enumerate(default):
            others = list(default)

            def accepts_one(value: float, index: int = index, others: list[Any] = others) -> bool:
                return accepts((*others[:index], value, *others[index + 1 :]))

            several.append(interval(accepts_one) if _is_number(member) else "(-inf, inf)")
        return several[0] if len(set(several)) == 1 else several
    return interval(accepts) if _is_number(default) else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def interval(accepts: Callable[[float], bool]) -> str:
    """Write the interval that a test accepts, whose ends are -1, 0, 1 or infinite."""
    far, near = 1e9, 1e-9
    low, high = "(-inf", "inf)"
    if not accepts(-far):
        ends = [e for e in (-1.0, 0.0, 1.0) if accepts(e) or accepts(e + near)]
        low = f"{'[' if accepts(ends[0]) else '('}{ends[0]:g}"
    if not accepts(far):
        ends = [e for e in (1.0, 0.0, -1.0) if accepts(e) or accepts(e - near)]
        high = f"{ends[0]:g}{']' if accepts(ends[0]) else ')'}"
    return f"{low}, {high}"


def _optimizers(torch: Any) -> Iterator[tuple[str, Any]]:
    """Every optimizer class of torch.optim, with its name."""
    base = torch.optim.Optimizer
    for name in dir(torch.optim):
        cls = getattr(torch.optim, name)
        if isinstance(cls, type) and issubclass(cls, base) and cls is not base:
            yield name, cls


def add_release(data: dict[str, Any], release: str, found: dict[str, Any]) -> dict[str, Any]:
    """Add one release, newer than all that `data` knows, to what `build` made before."""
    if version_key(release) <= version_key(data["releases"][-1]):
        return data
    fresh = build({release: found})["optimizers"]
    for name, facts in fresh.items():
        known = data["optimizers"].setdefault(name, facts)
        for key, values in facts["keys"].items():
            past = [tuple(pair) for pair in known["keys"].get(key, [])]
            known["keys"][key] = history([*past, *(tuple(pair) for pair in values)])
        known["order"] = history([tuple(pair) for pair in [*known["order"], *facts["order"]]])
        known["slots"] = facts["slots"] | known["slots"]
    data["releases"].append(release)
    return data


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description="Make dcpctl/_data/optimizers.json.")
    parser.add_argument("--catalogue", type=Path, help="release -> optimizer -> facts, as JSON")
    parser.add_argument("--installed", action="store_true", help="add the installed torch")
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    if arguments.catalogue:
        data = build(json.loads(arguments.catalogue.read_text()))
    else:
        data = json.loads(TARGET.read_text())
    if arguments.installed:
        data = add_release(data, *observe_installed())
        import torch

        RANGES.write_text(json.dumps(accepted_ranges(torch), indent=1) + "\n")
    arguments.output.write_text(json.dumps(data, indent=1) + "\n")
    print(f"{arguments.output}: {len(data['optimizers'])} optimizers, to {data['releases'][-1]}")


if __name__ == "__main__":
    main()
