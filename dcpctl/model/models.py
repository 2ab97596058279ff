"""The models in a checkpoint: sets of tensors under one root.

A model is where an optimizer's names of parameters are found; where an optimizer has indices, or
there is none, it is a container of the state dict that is called like one or holds what looks like
parameters. Object paths, where there are any, say where a root may end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from dcpctl.model.fqn import Path, strip_wrappers
from dcpctl.model.mirrors import mirrors
from dcpctl.model.optimizer.pairing import Claim, Model
from dcpctl.model.optimizer.parameters import ModelParameter, fits_in_order

_MODEL_ROOT = re.compile(r"(?i)(?:model|module|state_dict|net|network|ema|generator)s?(?:_\w+)?")
_PARAMETER_LEAF = re.compile(r"(?:.*_)?(?:weight|bias|scale|gamma|beta)s?")
EXTRA_STATE = "_extra_state"
_MAX_ROOT = 3
_MAX_DEPTH = 6

# Tensors that modules register as buffers: nothing trains them, so no optimizer knows them.
_BUFFER = re.compile(
    r".*inv_freq|running_(?:mean|var)|num_batches_tracked|freqs?(?:_cis)?|.*(?:cos|sin)_cache[d]?"
    r"|.*_cache|position_ids|token_type_ids|.*mask(?:ed_bias)?|relative_position_index"
    r"|_float_tensor|tokens_per_expert|expert_bias|e_score_correction_bias"
)
_TRAINABLE_DTYPE = re.compile(r"(?:float|bfloat|complex)\d+.*")


def is_buffer(name: str, entry: Any) -> bool:
    """Say whether a model's tensor is a buffer by its name or dtype: nothing ever trains it."""
    leaf = name.rpartition(".")[2]
    if _BUFFER.fullmatch(leaf) or EXTRA_STATE in name:
        return True
    return _TRAINABLE_DTYPE.fullmatch(str(entry.dtype)) is None


def is_parameter(fqn: str) -> bool:
    """Say whether a tensor is called as modules call their parameters."""
    return _PARAMETER_LEAF.fullmatch(fqn.rpartition(".")[2]) is not None


def is_model_root(component: str) -> bool:
    """Say whether a component is what state dicts call a model."""
    return _MODEL_ROOT.fullmatch(component) is not None


def below(fqn: str, root: str) -> str | None:
    """What follows a root in an FQN; None where it does not begin with it."""
    if not root:
        return fqn
    return fqn[len(root) + 1 :] if fqn.startswith(root + ".") else None


class Finder:
    """Finds the models among the tensors that are no optimizer's.

    Args:
        entries: FQN to entry of the whole checkpoint.
        tensors: the FQNs to look among, in metadata order.
        planner: FQN to object path; empty where there is none.
        claims: what the optimizers say of their models.
    """

    def __init__(
        self,
        entries: Mapping[str, Any],
        tensors: Sequence[str],
        planner: Mapping[str, Path],
        claims: Sequence[Claim],
    ) -> None:
        self.entries = entries
        self.tensors = tensors
        self.planner = planner
        self.claims = claims
        self.order = {fqn: number for number, fqn in enumerate(planner)}
        self.voted = self._votes()

    def _votes(self) -> dict[str, dict[str, str]]:
        """Roots under which named parameters are found: root -> name -> FQN, best first.

        A root with less than half of what the best one has for an optimizer is chance.
        """
        kept: dict[str, dict[str, str]] = {}
        for claim in self.claims:
            if not claim.names:
                continue
            found: dict[str, dict[str, str]] = {}
            loose: dict[str, dict[str, str]] = {}
            for fqn in self.tensors:
                components = fqn.split(".")
                bounds = self._bounds(fqn, components)
                for depth in range(min(_MAX_DEPTH, len(components))):
                    name = strip_wrappers(".".join(components[depth:]))
                    if name in claim.names:
                        into = found if depth in bounds else loose
                        into.setdefault(".".join(components[:depth]), {}).setdefault(name, fqn)
                        break
            for roots in (found, loose):
                best = max(map(len, roots.values()), default=0)
                for root, names in roots.items():
                    if 2 * len(names) >= best:
                        kept.setdefault(root, {}).update(names)
                if found:
                    break
        return dict(sorted(kept.items(), key=lambda item: -len(item[1])))

    def _bounds(self, fqn: str, components: Sequence[str]) -> Collection[int]:
        """Where a name may begin: at a key of the object path, or anywhere without one."""
        path = self.planner.get(fqn)
        if path is None or len(path) < 2:
            return range(len(components))
        bounds, at = [], 0
        for key in path:
            bounds.append(at)
            at += str(key).count(".") + 1
        return bounds

    @cached_property
    def _at_top(self) -> bool:
        """Whether the model has no root: its tensors lie at top level."""
        if "" in self.voted:
            return True
        everything = len(self.tensors) == len(self.entries)
        return everything and any(map(is_parameter, self.tensors))

    @cached_property
    def _top_components(self) -> frozenset[str]:
        """What the names of the model at top level begin with."""
        return frozenset(fqn.partition(".")[0] for fqn in self.voted.get("", {}).values())

    def at_top(self, fqn: str) -> bool:
        """Whether a tensor is that of a model at top level, a buffer or a frozen parameter.

        A number in a dict beside the model (`train_state.step`) is none.
        """
        if not self._at_top:
            return False
        if not self._top_components or fqn.partition(".")[0] in self._top_components:
            return True
        path = self.planner.get(fqn)
        return len(path) == 1 if path is not None else bool(self.entries[fqn].shape)

    def models(self, ours: Mapping[str, bool]) -> list[Model]:
        """Return the models.

        Args:
            ours: for each tensor whether it is a model's, by what it is called.
        """
        roots: dict[str, dict[str, str]] = {root: {} for root in self.voted}
        claimed: dict[str, str] = {}
        for root, names in self.voted.items():
            for fqn in names.values():
                claimed.setdefault(fqn, root)
        if not self.voted:
            ours_all = [fqn for fqn in self.tensors if ours[fqn]]
            roots = {root: {} for root in self._parts(ours_all) or [self._by_convention()]}
        named = sorted(filter(None, roots), key=len, reverse=True)
        loose: list[str] = []
        for fqn in self.tensors:
            head = claimed.get(fqn) or next((r for r in named if fqn.startswith(r + ".")), None)
            if head is None and fqn not in claimed:
                loose.append(fqn)
            else:
                self._put(roots[head or ""], fqn, head or "")
        self._put_loose(roots, [fqn for fqn in loose if ours[fqn]])
        return [self._model(root, names) for root, names in roots.items() if names]

    def _put(self, names: dict[str, str], fqn: str, root: str) -> None:
        name = below(fqn, root)
        if name is not None:
            names.setdefault(strip_wrappers(name), fqn)

    def _put_loose(self, roots: dict[str, dict[str, str]], loose: Sequence[str]) -> None:
        """Tensors under no known root: parts of the model at top level, or models of their own."""
        known = [self._model(root, names) for root, names in roots.items() if names]
        for container, fqns in self._containers(loose).items():
            rest = fqns
            if container and not self._mirrors(fqns, container, known):
                for root, inner in self._under_prefixes(fqns, container).items():
                    if self._mirrors(inner, root, known):
                        roots[root] = self._named(inner, root)
                        rest = [fqn for fqn in rest if fqn not in inner]
            mirrored = self._mirrors(rest, container, known)
            root = container if container and (mirrored or "" not in roots) else ""
            names = roots.setdefault(root, {})
            for fqn in rest:
                self._put(names, fqn, root)

    def _mirrors(self, fqns: Sequence[str], root: str, models: Sequence[Model]) -> bool:
        own = self._model(root, self._named(fqns, root))
        return any(mirrors(own, model) for model in models)

    def _under_prefixes(self, fqns: Sequence[str], container: str) -> dict[str, list[str]]:
        """The tensors of one dict by what their keys begin with: `ema_model.`, `online_model.`."""
        found: dict[str, list[str]] = {}
        for fqn in fqns:
            key, dot, _ = (below(fqn, container) or "").partition(".")
            if dot:
                found.setdefault(f"{container}.{key}", []).append(fqn)
        return found

    def _containers(self, fqns: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for fqn in fqns:
            found.setdefault(self._container(fqn), []).append(fqn)
        return found

    def _parts(self, fqns: Sequence[str]) -> list[str]:
        """The dicts of the state dict that are models, where optimizers have indices.

        They are where there are several of them and each optimizer fits one.
        """
        paths = all(len(self.planner.get(fqn, ())) > 1 for fqn in fqns)
        for depth in (0,) if paths else range(1, _MAX_DEPTH):
            parts: dict[str, list[str]] = {}
            for fqn in fqns:
                head = ".".join(fqn.split(".")[:depth]) if depth else self._container(fqn)
                parts.setdefault(head, []).append(fqn)
            found = [self._model(root, self._named(names, root)) for root, names in parts.items()]
            if len(parts) > 1 and self._indices_fit(found):
                return list(parts)
        return []

    def _named(self, fqns: Iterable[str], root: str) -> dict[str, str]:
        names: dict[str, str] = {}
        for fqn in fqns:
            self._put(names, fqn, root)
        return names

    def _indices_fit(self, parts: Sequence[Model]) -> bool:
        """Whether every optimizer with indices fits one of several parts."""
        indexed = [claim for claim in self.claims if claim.groups]
        return bool(indexed) and all(
            any(fits_in_order(c.groups, c.shapes, part.parameters) for part in parts)
            for c in indexed
        )

    def _container(self, fqn: str) -> str:
        """The dict of the state dict in which a tensor lies; where nothing says, what is above."""
        path = self.planner.get(fqn)
        if path is None or len(path) < 2:
            components = fqn.split(".")
            named = is_model_root(components[0]) and len(components) > 1
            return components[0] if named and path is None else ""
        return ".".join(map(str, path[:-1]))

    def _model(self, root: str, names: Mapping[str, str]) -> Model:
        ordered = dict(sorted(names.items(), key=lambda item: self.order.get(item[1], -1)))
        parameters = tuple(
            ModelParameter(name, fqn, tuple(self.entries[fqn].shape))
            for name, fqn in ordered.items()
            if not is_buffer(name, self.entries[fqn])
        )
        return Model(root, names, parameters)

    def _by_convention(self) -> str:
        """The prefix that is called like a model and holds most tensors; empty: top level."""
        votes: Counter[str] = Counter()
        for fqn in self.tensors:
            components = fqn.split(".")
            for depth, component in enumerate(components[: _MAX_ROOT - 1]):
                if is_model_root(component) and len(components) > depth + 1:
                    votes[".".join(components[: depth + 1])] += 1
                    break
        if not votes:
            return ""
        # `model.embed.weight` beside `lm_head.weight` is one model whose names begin with `model`.
        beside = sum(
            is_parameter(fqn)
            and not self._container(fqn)
            and not any(fqn.startswith(root + ".") for root in votes)
            for fqn in self.tensors
        )
        return "" if beside else max(votes, key=lambda root: votes[root])
