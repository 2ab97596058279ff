"""Which optimizer belongs to which model, by evidence that each pairing carries.

What contradicts a pair rules it out: parameters that the optimizer names and the model lacks, or
state of another shape than its parameter. Of the models that are left the first evidence that
favours one of them decides: object paths (a parent that no other model shares with the optimizer,
then words in common), the number of parameters, checksums of state that repeats the weights, and
last that the others' parameters are another optimizer's already. Where nothing decides, the
pairing is ambiguous, and says between which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dcpctl.errors import quote
from dcpctl.model.optimizer.parameters import ModelParameter, Shape, fits_in_order

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Words that say what a thing is and not which one.
_OPTIMIZER_WORDS = frozenset(
    {"optim", "optims", "optimizer", "optimizers", "opt", "opts", "osd"}
    | {"adam", "adamw", "sgd", "solver", "state"}
)
_MODEL_WORDS = frozenset(
    {"model", "models", "module", "modules", "net", "nets", "network", "networks", "nn"}
    | {"state", "dict", "weights", "params", "parameters"}
)


@dataclass(frozen=True, slots=True)
class Model:
    """Tensors that are one model.

    Attributes:
        root: what their FQNs begin with; empty for a model at top level.
        names: name without root and wrappers to FQN, in the model's order.
        parameters: those that may be trained, in that order.
    """

    root: str
    names: Mapping[str, str]
    parameters: tuple[ModelParameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What an optimizer says of its model.

    Attributes:
        root: of the optimizer.
        names: the names that it has for parameters, without wrappers; empty for indices.
        shapes: name or index to the shape of its parameter, where the state tells it.
        groups: indices of each param group; empty for names.
    """

    root: str
    names: frozenset[str] = frozenset()
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    groups: tuple[tuple[str, ...], ...] = ()

    @property
    def count(self) -> int:
        """How many parameters it has."""
        return len(self.names) or sum(map(len, self.groups))


@dataclass(frozen=True, slots=True)
class Pairing:
    """Whose optimizer one is.

    Attributes:
        optimizer: root of the optimizer.
        model: root of its model; None where none fits or several do.
        evidence: what that rests on, a clause.
        candidates: roots of the models that fit equally; empty where one was told.
    """

    optimizer: str
    model: str | None
    evidence: str = ""
    candidates: tuple[str, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether several models fit equally."""
        return self.model is None and len(self.candidates) > 1

    @property
    def sentence(self) -> str:
        """`optimizer 'a' is of model 'b': object paths`."""
        name = f"optimizer {quote(self.optimizer)}"
        if self.ambiguous:
            return f"{name} is ambiguous between {' and '.join(map(quote, self.candidates))}"
        if self.model is None:
            return f"{name} belongs to none of the models here"
        return f"{name} belongs to {quote(self.model) if self.model else 'the model'}"


#: The models among several that a piece of evidence favours.
_Evidence = Callable[[Claim, Sequence[Model]], list[Model]]


def pair(
    claims: Sequence[Claim],
    models: Sequence[Model],
    *,
    decided: Mapping[str, str] | None = None,
    copied: Callable[[str, str], bool] | None = None,
    same_bytes: Callable[[str, str], bool] | None = None,
) -> tuple[Pairing, ...]:
    """Pair each optimizer with a model.

    Args:
        claims: the optimizers.
        models: the models.
        decided: optimizer root to model root, as a person said.
        copied: whether a model (by its root) is an averaged copy of another, as far as that shows
            without its optimizer.
        same_bytes: whether the state of an optimizer (by its root) repeats the weights of a model
            (by its root), as checksums say.

    Returns:
        One pairing per claim, in order.
    """
    found: dict[str, Pairing] = {}
    left: dict[str, tuple[Claim, list[Model]]] = {}
    for claim in claims:
        told = (decided or {}).get(claim.root)
        if told is not None:
            found[claim.root] = Pairing(claim.root, told, "--optimizer-of")
            continue
        fitting, evidence = _fitting(claim, models)
        if len(fitting) > 1:
            fitting, evidence = _narrowed(claim, fitting, same_bytes)
        if len(fitting) == 1:
            found[claim.root] = Pairing(claim.root, fitting[0].root, evidence)
        elif not fitting and len(models) == 1:
            found[claim.root] = Pairing(claim.root, models[0].root, "the only model")
        elif not fitting:
            found[claim.root] = Pairing(claim.root, None)
        else:
            left[claim.root] = (claim, fitting)
    while left:
        decided_now = _eliminated(left, found, claims) or _uncopied(left, copied)
        if decided_now is None:
            break
        found[decided_now.optimizer] = decided_now
        del left[decided_now.optimizer]
    for root, (_, fitting) in left.items():
        found[root] = Pairing(root, None, "", tuple(model.root for model in fitting))
    return tuple(found[claim.root] for claim in claims)


def _fitting(claim: Claim, models: Sequence[Model]) -> tuple[list[Model], str]:
    """The models that nothing rules out, and what was compared."""
    if claim.names:
        hits = {model.root: len(claim.names & model.names.keys()) for model in models}
        best = max(hits.values(), default=0)
        named = [model for model in models if best and hits[model.root] == best]
        # Damaged state may have a wrong shape: that rules a model out where another fits.
        fitting = [model for model in named if not _contradicted(claim, model)] or named
        return fitting, "names" if len(named) == len(fitting) else "names and shapes"
    if claim.groups:
        fitting = [m for m in models if fits_in_order(claim.groups, claim.shapes, m.parameters)]
        return fitting, "shapes and number of parameters" if claim.shapes else "number"
    return list(models), "the only model"


def _contradicted(claim: Claim, model: Model) -> bool:
    shapes = {parameter.name: parameter.shape for parameter in model.parameters}
    return any(name in shapes and shapes[name] != shape for name, shape in claim.shapes.items())


def _narrowed(
    claim: Claim, models: list[Model], same_bytes: Callable[[str, str], bool] | None
) -> tuple[list[Model], str]:
    """Take one piece of evidence after the other until one model is left."""
    steps: list[tuple[str, _Evidence]] = [
        ("object paths: a common parent", _nearest),
        ("object paths: words in common", _by_words),
        ("number of parameters", _by_number),
    ]
    if same_bytes is not None:
        repeated = same_bytes
        steps.append(("checksums", lambda c, ms: [m for m in ms if repeated(c.root, m.root)]))
    for evidence, favoured in steps:
        found = favoured(claim, models)
        if len(found) == 1:
            return found, evidence
        models = found or models
    return models, ""


def nearest(root: str, models: Sequence[Model]) -> list[Model]:
    """Return those of several models whose object paths are nearest to a root."""
    claim = Claim(root)
    return _by_words(claim, _nearest(claim, models))


def _nearest(claim: Claim, models: Sequence[Model]) -> list[Model]:
    """The models with the longest path in common."""
    shared = {model.root: _common(claim.root, model.root) for model in models}
    best = max(shared.values())
    return [model for model in models if shared[model.root] == best]


def _common(one: str, other: str) -> int:
    pairs = zip(one.split("."), other.split("."), strict=False)
    count = 0
    for left, right in pairs:
        if left != right or not left:
            break
        count += 1
    return count


def _by_words(claim: Claim, models: Sequence[Model]) -> list[Model]:
    """The models whose roots have most words of the optimizer's; else beginnings of words."""
    own = _words(claim.root, _OPTIMIZER_WORDS)
    theirs = {model.root: _words(model.root, _MODEL_WORDS) for model in models}
    for score in (_equal_words, _begun_words):
        scores = {root: score(own, words) for root, words in theirs.items()}
        best = max(scores.values())
        if best > 0:
            found = [model for model in models if scores[model.root] == best]
            if len(found) < len(models):
                return found
    return list(models)


def _words(root: str, generic: frozenset[str]) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(root)) - generic


def _equal_words(own: frozenset[str], theirs: frozenset[str]) -> float:
    """Words in common; sets that are equal, both empty included, go before larger ones."""
    return len(own & theirs) + (0.5 if own == theirs else 0)


def _begun_words(own: frozenset[str], theirs: frozenset[str]) -> float:
    """How many words are the beginning of another: `g` of `generator`."""
    return sum(
        one.startswith(other) or other.startswith(one)
        for one in own
        for other in theirs
        if not (one + other).isdigit()
    )


def _by_number(claim: Claim, models: Sequence[Model]) -> list[Model]:
    """The models that have as many parameters as the optimizer."""
    return [model for model in models if len(model.parameters) == claim.count]


def _eliminated(
    left: Mapping[str, tuple[Claim, list[Model]]],
    found: Mapping[str, Pairing],
    claims: Sequence[Claim],
) -> Pairing | None:
    """A pairing of an optimizer whose parameters are free in one of its models only.

    A parameter is trained by one optimizer; so where another has all of them, it is not this one.
    """
    by_root = {claim.root: claim for claim in claims}
    for root, (claim, models) in left.items():
        free = []
        for model in models:
            others = [by_root[p.optimizer] for p in found.values() if p.model == model.root]
            if not any(_overlap(claim, other, model) for other in others):
                free.append(model)
        if len(free) == 1 and len(free) < len(models):
            return Pairing(root, free[0].root, "the others' parameters have an optimizer")
    return None


def _overlap(claim: Claim, other: Claim, model: Model) -> bool:
    if claim.names and other.names:
        return bool(claim.names & other.names)
    return claim.count + other.count > len(model.parameters)


def _uncopied(
    left: Mapping[str, tuple[Claim, list[Model]]], copied: Callable[[str, str], bool] | None
) -> Pairing | None:
    """A pairing of an optimizer all of whose models but one are copies of that one."""
    if copied is None:
        return None
    for root, (_, models) in left.items():
        for model in models:
            others = [other for other in models if other is not model]
            if all(copied(other.root, model.root) for other in others):
                return Pairing(root, model.root, "the others are copies of it")
    return None
