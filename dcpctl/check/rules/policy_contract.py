"""DCP70x: does the checkpoint keep the contract that the policy names?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dcpctl.check import words
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.registry import CannotRun, Hit, NotAsked, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.contract import Contract, Spec, contract_of


@rule("DCP701", ERROR, "a key of the contract is missing")
def missing_keys(run: Run) -> Iterator[Hit]:
    """Keys that the contract has and the checkpoint has not."""
    contract = _contract(run)
    missing = [fqn for fqn in contract.entries if fqn not in run.checkpoint.entries]
    if missing:
        yield Hit(
            missing[0],
            f"{words.count(len(missing), 'key')} of {len(contract.entries):,} in the contract "
            f"{'is' if len(missing) == 1 else 'are'} missing: {words.some(missing)}",
        )


@rule("DCP702", WARNING, "a key that the contract does not have")
def extra_keys(run: Run) -> Iterator[Hit]:
    """Keys that the checkpoint has and the contract has not."""
    contract = _contract(run)
    extra = [fqn for fqn in run.checkpoint.entries if fqn not in contract.entries]
    if extra:
        yield Hit(
            extra[0],
            f"{words.count(len(extra), 'key')} that the contract does not have: "
            f"{words.some(extra)}",
        )


@rule("DCP703", ERROR, "another shape than the contract's")
def other_shapes(run: Run) -> Iterator[Hit]:
    """Tensors of another shape, and tensors where the contract has an object or the reverse."""
    found: dict[str, list[str]] = {}
    for fqn, asked, stored in _both(run):
        if asked.shape != stored.shape:
            what = f"{_shape(stored)}, {_shape(asked)} in the contract"
            found.setdefault(what, []).append(fqn)
    yield from _by_difference(found)


@rule("DCP704", ERROR, "another dtype than the contract's")
def other_dtypes(run: Run) -> Iterator[Hit]:
    """Tensors of another dtype."""
    found: dict[str, list[str]] = {}
    for fqn, asked, stored in _both(run):
        if asked.is_tensor and stored.is_tensor and asked.dtype != stored.dtype:
            what = f"{stored.dtype}, {asked.dtype} in the contract"
            found.setdefault(what, []).append(fqn)
    yield from _by_difference(found)


@rule("DCP705", ERROR, "another optimizer than the contract's")
def other_optimizer(run: Run) -> Iterator[Hit]:
    """The kind of the optimizer, and the keys of its param groups."""
    contract, stored = _contract(run), contract_of(run.checkpoint, run.optimizer)
    unread = run.optimizer.kind_unread
    if contract.optimizer != stored.optimizer and unread is None:
        yield Hit(
            "optimizer",
            f"the optimizer is {stored.optimizer or 'unknown'}, in the contract it is "
            f"{contract.optimizer or 'unknown'}",
        )
    asked = {key for group in contract.group_keys for key in group}
    have = {key for group in stored.group_keys for key in group}
    differences = [
        f"{words.some(sorted(keys))} {clause}"
        for keys, clause in ((asked - have, "missing"), (have - asked, "not in the contract"))
        if keys
    ]
    if not differences and contract.group_keys != stored.group_keys:
        differences = ["the same keys in other groups"]
    if differences:
        yield Hit("optimizer.param_groups", f"group keys differ: {'; '.join(differences)}")
    if unread is not None:
        raise CannotRun(f"what tells the optimizer could not be read: {unread.reason}")


def _contract(run: Run) -> Contract:
    policy = run.options.policy
    if policy is None or policy.expect.contract is None:
        raise NotAsked("no policy names a contract")
    return policy.expect.contract


def _both(run: Run) -> Iterator[tuple[str, Spec, Spec]]:
    """The keys that the contract and the checkpoint have: (FQN, as the contract has it, stored)."""
    stored = contract_of(run.checkpoint, run.optimizer).entries
    for fqn, asked in _contract(run).entries.items():
        if fqn in stored:
            yield fqn, asked, stored[fqn]


def _shape(spec: Spec) -> str:
    return "no tensor" if spec.shape is None else str(list(spec.shape))


def _by_difference(found: dict[str, list[str]]) -> Iterator[Hit]:
    """One finding for all keys that differ in the same way; the layers of a model repeat."""
    for what, fqns in found.items():
        more = _more(fqns)
        yield Hit(fqns[0], f"is {what}{more}")


def _more(fqns: Sequence[str]) -> str:
    if len(fqns) == 1:
        return ""
    last = f", the last is {quote(fqns[-1])}" if len(fqns) > 2 else f": {quote(fqns[1])}"
    return f"; so {'is' if len(fqns) == 2 else 'are'} {len(fqns) - 1:,} more{last}"
