"""What state every trained parameter should have, what it has, and what the lack of it means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dcpctl.model.fqn import is_index, strip_wrappers
from dcpctl.model.optimizer.catalogue import SlotRule
from dcpctl.model.optimizer.faults import Fault, Held, find_faults, is_share
from dcpctl.model.optimizer.kind import DECOUPLED, Kind, tell_kind
from dcpctl.model.optimizer.parameters import (
    ModelParameter,
    name_indices,
    stateless_modules,
)
from dcpctl.model.optimizer.source import (
    BUCKETS,
    RawGroup,
    RawOptimizer,
    StateEntry,
    shape_behind,
)
from dcpctl.model.optimizer.ties import find_ties
from dcpctl.model.values import Unknown

Shape = tuple[int, ...]
#: FQN to the name of the tensor subclass that it holds; None for a plain tensor.
ClassOf = Callable[[str], str | None]

COMPLETE = "complete"
NO_STATE_NEEDED = "needs no state"
LOST = "lost"
NEVER_TRAINED = "never trained or lost"
UNREAD = "unknown"
FAULTY = "not all there"


@dataclass(slots=True)
class Parameter:
    """One parameter that an optimizer trains.

    Attributes:
        name: as the optimizer names it; for an index the model's name where that is certain. Where
            several optimizers have one name for different parameters, with what the FQNs of its
            model begin with.
        key: name or index in the state.
        root: the optimizer's root.
        fqn: the model's entry; None when the model has none of that name.
        shape: of the parameter; None when neither model nor state tells.
        values: its group's hyperparameters; empty when they were not saved.
        has_group: its group was saved.
        unread: why its state is not known, where what holds it could not be read.
        slots: state slot to the entry that holds it.
        expected: slots that it should have.
        absent: slots that the planner data name and no entry holds.
        faults: slots that are there and not what it needs.
        kind: which optimizer trains it.
        status: one of the constants above.
        why: what the status rests on, a clause; empty for COMPLETE and NO_STATE_NEEDED.
        module: the module around it of which nothing has state; empty where there is none.
    """

    name: str
    key: str
    root: str
    fqn: str | None = None
    shape: Shape | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    has_group: bool = False
    slots: Mapping[str, StateEntry] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unread: Unknown | None = None
    faults: tuple[Fault, ...] = ()
    kind: Kind = field(default_factory=lambda: Kind(None, (), ""))
    status: str = NEVER_TRAINED
    why: str = ""
    module: str = ""

    def lies_in(self, module: str) -> None:
        """Name the module around it of which nothing has state."""
        self.module = module
        self.why = f"nothing in {module} has state"

    @property
    def missing(self) -> tuple[str, ...]:
        """Expected slots that no entry holds."""
        return tuple(slot for slot in self.expected if slot not in self.slots)

    def rule(self, slot: str) -> SlotRule | None:
        """Return what its optimizer is known to keep in a slot, if it is known."""
        if self.kind.rules is not None:
            return self.kind.rules.get(slot)
        known = (optimizer.slots.get(slot) for optimizer in self.kind.torch)
        return next((rule for rule in known if rule is not None), None)

    @property
    def ndim(self) -> int | None:
        """Number of dimensions; None when unknown."""
        return None if self.shape is None else len(self.shape)


def cover(
    raw: RawOptimizer,
    model: Sequence[ModelParameter],
    entries: Mapping[str, Any],
    *,
    only_optimizer: bool,
    class_of: ClassOf = lambda fqn: None,
) -> list[Parameter]:
    """Return every parameter that one optimizer trains, with what it should have.

    Trained are the parameters of the param groups. Where no group says which, they are those with
    state and, with one optimizer, all of the model's that are no buffers. `entries` are those of
    the whole checkpoint.
    """
    parameters = _trained(raw, model, entries, only_optimizer)
    _tell_kinds(raw, parameters, class_of)
    _expect(parameters)
    faults = find_faults(_held(parameters), entries)
    for parameter in parameters:
        parameter.faults = tuple(faults.get(parameter.name, ()))
    _judge(parameters)
    return parameters


def _held(parameters: Sequence[Parameter]) -> Iterator[Held]:
    for one in parameters:
        for slot, state in one.slots.items():
            rule = one.rule(slot)
            ruled = "" if rule is None else rule.shape
            yield Held(one.name, slot, state, ruled, one.fqn, one.shape)


def _trained(
    raw: RawOptimizer,
    model: Sequence[ModelParameter],
    entries: Mapping[str, Any],
    only_optimizer: bool,
) -> list[Parameter]:
    keys: dict[str, Mapping[str, object]] = {}
    for group in raw.groups:
        keys.update(dict.fromkeys(group.params, group.values))
    grouped = set(keys)
    common = _common_values(raw.groups) if not grouped else {}
    for key in raw.groups_absent:
        if not is_index(key):
            keys.setdefault(key, {})
    if not grouped or raw.groups_absent or raw.params_unknown:
        names = {strip_wrappers(key) for key in [*raw.state, *raw.absent]}
        for key in [*raw.state, *raw.absent, *filter(None, raw.state_unknown)]:
            keys.setdefault(key, common)
        named = any(parameter.name in names for parameter in model)
        told = not grouped and not raw.params_unknown and raw.style != BUCKETS
        if told and only_optimizer and named:
            for parameter in model:
                if parameter.name not in names:
                    keys.setdefault(parameter.name, common)
    by_name = {parameter.name: parameter for parameter in model}
    indices = _names_of_indices(raw, list(keys), model, entries)
    found = []
    for key, values in keys.items():
        name = indices.get(key, key)
        behind = by_name.get(strip_wrappers(name))
        slots = raw.state.get(key, {})
        shape = behind.shape if behind else shape_behind(slots)
        found.append(
            Parameter(
                name,
                key,
                raw.root,
                fqn=behind.fqn if behind else None,
                shape=shape,
                values=values,
                has_group=bool(len(values)),
                slots=slots,
                absent=tuple(raw.absent.get(key, ())),
                unread=raw.state_unknown.get(key, raw.state_unknown.get("")),
            )
        )
    return found


def _common_values(groups: Sequence[RawGroup]) -> Mapping[str, object]:
    """Hyperparameters of parameters whose group is not known: those that all groups share."""
    if len(groups) == 1:
        return groups[0].values
    if not groups or len({frozenset(group.values) for group in groups}) > 1:
        return {}
    found: dict[str, object] = {}
    for key, value in groups[0].values.items():
        alike = len({repr(group.values[key]) for group in groups}) == 1
        found[key] = value if alike else Unknown(key, "the param groups differ in it")
    return found


def _names_of_indices(
    raw: RawOptimizer,
    keys: Sequence[str],
    model: Sequence[ModelParameter],
    entries: Mapping[str, Any],
) -> dict[str, str]:
    """Index to name, from `param_names` or from the shapes; empty for what has names already."""
    names = {
        param: name
        for group in raw.groups
        for param, name in zip(group.params, group.names, strict=False)
    }
    if names or not keys or not all(is_index(key) for key in keys):
        return names
    groups = [group.params for group in raw.groups if group.params] or [tuple(keys)]
    shapes = {key: shape for key in keys if (shape := shape_behind(raw.state.get(key, {})))}
    fewer = sum(map(len, groups)) < len(model)
    tied = find_ties(model, entries).tied if fewer else {}
    found = name_indices(groups, shapes, model, tied)
    if found or not shapes:
        return found
    # Of state that is one rank's share the order alone tells, and the shapes have to agree.
    by_order = name_indices(groups, {}, model, tied)
    known = {parameter.name: parameter for parameter in model}
    for key, name in by_order.items():
        behind, shape = known[name], shapes.get(key, known[name].shape)
        if shape != behind.shape and not is_share(shape, behind.shape, entries.get(behind.fqn)):
            return {}
    return by_order


def _classes(members: Sequence[Parameter], class_of: ClassOf) -> frozenset[str]:
    """The tensor subclasses that the state of some parameters is of."""
    found = (class_of(entry.fqn) for member in members for entry in member.slots.values())
    return frozenset(name for name in found if name is not None)


def _tell_kinds(raw: RawOptimizer, parameters: Sequence[Parameter], class_of: ClassOf) -> None:
    """Give every parameter its kind: one for all parameters with the same group keys.

    Parameters without group keys take the kind of the rest, if there is one. Of what class the
    state is, is only asked where keys and slots alone do not tell.
    """
    alike: dict[tuple[str, ...], list[Parameter]] = {}
    for parameter in parameters:
        alike.setdefault(_signature(parameter.values), []).append(parameter)
    _join_unknown(alike)
    kinds: dict[tuple[str, ...], Kind] = {}
    for signature, members in alike.items():
        slots = frozenset(slot for member in members for slot in member.slots)
        if signature:
            values = members[0].values
            kind = tell_kind(tuple(values), slots, values, raw.root)
            if kind.rules is None and (classes := _classes(members, class_of)):
                kind = tell_kind(tuple(values), slots, values, raw.root, classes)
            kinds[signature] = kind
    for signature, members in alike.items():
        if signature:
            kind = kinds[signature]
        elif len(kinds) == 1:
            kind = next(iter(kinds.values()))
        else:
            slots = frozenset(slot for member in members for slot in member.slots)
            unread = raw.groups_unknown is not None
            without = "the param groups could not be read" if unread else "no param groups"
            kind = tell_kind((), slots, {}, raw.root, without=without)
        for member in members:
            member.kind = kind


def _join_unknown(alike: dict[tuple[str, ...], list[Parameter]]) -> None:
    """Let the groups whose one value is unknown follow the others of this optimizer, if all agree.

    `decoupled_weight_decay` tells Adam from AdamW, and one optimizer is of one class.
    """
    for signature in [s for s in alike if s and s[-1] == "unknown"]:
        others = [s for s in alike if s[:-1] == signature[:-1] and s != signature]
        if len(others) == 1:
            alike[others[0]].extend(alike.pop(signature))


def _signature(values: Mapping[str, object]) -> tuple[str, ...]:
    """Group keys and the one value that tells Adam from AdamW; unknown where it is."""
    if not values:
        return ()
    value = values.get(DECOUPLED)
    told = repr(value) if isinstance(value, Unknown) else str(bool(value))
    return (*sorted(values), *((told,) if DECOUPLED in values else ()))


def _expect(parameters: Sequence[Parameter]) -> None:
    """Set the expected slots: by the optimizer's rules, and for what they do not say by majority.

    A majority is counted among parameters with state of one kind and dimension class (matrices
    apart from vectors, since factored optimizers treat them differently).
    """
    classes: dict[tuple[int, bool], list[Parameter]] = {}
    for parameter in parameters:
        matrix = parameter.ndim is not None and parameter.ndim > 1
        classes.setdefault((id(parameter.kind), matrix), []).append(parameter)
    first = parameters[0] if parameters else None
    usual = {key: _usual(members) for key, members in classes.items()}
    for (kind_id, matrix), members in classes.items():
        common = usual[kind_id, matrix]
        if common is None:
            common = usual.get((kind_id, not matrix)) or ()
        for member in members:
            rules = member.kind.rules
            if member.unread is not None and not member.slots:
                member.expected = ()
            elif rules is None:
                member.expected = common
            elif member.kind.global_state and member is not first:
                member.expected = ()
            else:
                kept = [
                    slot
                    for slot, rule in rules.items()
                    if not rule.optional and rule.holds_for(member.values, member.ndim)
                ]
                more = [slot for slot in common if slot not in rules]
                member.expected = (*kept, *more)


def _usual(members: Sequence[Parameter]) -> tuple[str, ...] | None:
    """Slots that more than half of the parameters with state have; None: none has state."""
    counts = Counter(slot for member in members for slot in member.slots)
    having = sum(bool(member.slots) for member in members)
    return tuple(slot for slot, n in counts.items() if 2 * n > having) if having else None


def _judge(parameters: Sequence[Parameter]) -> None:
    """Set status and why: what is not there, and whether it was lost or never was."""
    names = [parameter.name for parameter in parameters]
    without = frozenset(p.name for p in parameters if p.expected and not p.slots)
    modules = stateless_modules(names, without)
    for parameter in parameters:
        if parameter.unread is not None and not parameter.slots:
            parameter.status = UNREAD
            parameter.why = f"it could not be read: {parameter.unread.reason}"
        elif not parameter.expected:
            parameter.status = NO_STATE_NEEDED
        elif not parameter.missing:
            parameter.status = FAULTY if parameter.faults else COMPLETE
            parameter.why = parameter.faults[0].why if parameter.faults else ""
        elif any(slot in parameter.absent for slot in parameter.missing):
            parameter.status = LOST
            parameter.why = "the planner data name it and no entry holds it"
        elif parameter.slots:
            parameter.status = LOST
            parameter.why = f"it has {', '.join(parameter.slots)}"
        elif parameter.name in modules:
            parameter.status = NEVER_TRAINED
            parameter.lies_in(modules[parameter.name])
        else:
            parameter.status = NEVER_TRAINED
            parameter.why = "others have state, and nothing here says that it had some"
