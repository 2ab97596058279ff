"""Running the steps of an upgrade, one after the other."""

from __future__ import annotations

from dcpctl import torch_bridge
from dcpctl.errors import UsageError, quote
from dcpctl.model.draft import Draft
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.model.releases import check_release
from dcpctl.surgery.upgrade import FILLS, OPTIMIZER_KEYS, Upgrade
from dcpctl.surgery.upgrade.context import Context
from dcpctl.surgery.upgrade.registry import StepReport, all_steps


def upgrade(draft: Draft, options: Upgrade) -> tuple[Draft, list[StepReport]]:
    """Bring a checkpoint into the form that a torch release loads; newer or older than its own.

    Args:
        draft: the checkpoint.
        options: the target and the choices.

    Returns:
        The result and a report of each step. Where no step changed anything the draft is the one
        that was given.

    Raises:
        UsageError: an unknown release, optimizer or choice.
        Refused: something would be guessed or lost; the message says what and which option tells.
    """
    context = _context(options)
    reports = []
    for step in all_steps():
        done = step.run(draft, context)
        reports.append(StepReport(step.name, done.changed, done.note))
        draft = done.draft
    return draft, reports


def _context(options: Upgrade) -> Context:
    torch = torch_bridge.installed_version() if options.torch is None else options.torch
    if torch is None:
        raise UsageError(
            "torch is not installed here, so that no release is meant by default",
            hint="give one: --torch 2.13",
        )
    if options.torch is not None:
        check_release(options.torch)
    if options.optimizer_keys not in (None, *OPTIMIZER_KEYS):
        raise UsageError(
            f"{quote(options.optimizer_keys)} is no way to name an optimizer's parameters",
            hint=f"one of {', '.join(OPTIMIZER_KEYS)}",
        )
    if options.fill_missing_state not in (None, *FILLS):
        raise UsageError(
            f"state cannot be filled with {quote(options.fill_missing_state)}", hint="zeros"
        )
    named = None if options.optimizer is None else optimizer_named(options.optimizer)
    return Context(
        torch, named, options.optimizer_keys, options.fill_missing_state, options.wrappers
    )


def optimizer_named(text: str) -> str:
    """Return the class name in torch.optim that `text` means, in any case.

    Raises:
        UsageError: torch has no such optimizer.
    """
    names = {name.lower(): name for name in catalogue().torch}
    found = names.get(text.lower().removeprefix("torch.optim."))
    if found is None:
        raise UsageError(
            f"torch.optim has no {quote(text)}", hint=f"one of {', '.join(sorted(names))}"
        )
    return found
