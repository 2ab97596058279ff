"""`upgrade`: bring a checkpoint into the form that a torch release loads, values bit for bit.

`engine.upgrade` runs the steps of `steps/` in their order; each is a function from draft to draft
that leaves alone what it has nothing to do with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcpctl.surgery.options import OPTIMIZER_OF, Option, given, switch, text
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome

#: How an optimizer can name its parameters: by `fqn` (get_state_dict), by `index`
#: (optimizer.state_dict()) or `flat` (flatten_optimizer_state_dict).
OPTIMIZER_KEYS = ("fqn", "index", "flat")
#: What parameters that were never trained can be given.
FILLS = ("zeros",)


@dataclass(frozen=True, slots=True)
class Upgrade(Verb):
    """Bring a checkpoint into the form that a torch release loads; values stay bit for bit.

    Adds the param_groups keys that the release's optimizer asks for with its own defaults, opens
    pickled param groups, strips wrapper names that leaked into some keys, and writes metadata that
    the release reads. The release may be newer or older than the one that wrote it. Where the
    optimizer cannot be told and its defaults matter, it asks for --optimizer.

    Examples:
      dcpctl upgrade sample_checkpoints/legacy out/upgraded --torch 2.13 --optimizer adamw
      dcpctl upgrade sample_checkpoints/releases/2.15.0-optim_AdamW out/older --torch 2.13
    """

    verb = "upgrade"
    order = 10
    only = "Bring it into the form that a torch release loads."

    torch: str | None = given(
        Option(
            ("--torch",),
            text(),
            metavar="X.Y",
            help="The release that is to load it. [default: the installed one]",
            key="torch",
        )
    )
    optimizer: str | None = given(
        Option(
            ("--optimizer",),
            text(),
            metavar="NAME",
            help="The optimizer's class: adam, adamw ...",
            key="optimizer",
        )
    )
    optimizer_keys: str | None = given(
        Option(
            ("--optimizer-keys",),
            text(choices=OPTIMIZER_KEYS),
            metavar="|".join(OPTIMIZER_KEYS),
            help="How the optimizer names its parameters.",
            key="optimizer_keys",
        )
    )
    fill_missing_state: str | None = given(
        Option(
            ("--fill-missing-state",),
            text(choices=FILLS),
            metavar="zeros",
            help="Give parameters without optimizer state a new one.",
            key="fill_missing_state",
        )
    )
    wrappers: bool | None = given(
        Option(
            ("--wrappers/--no-wrappers",),
            switch(),
            help="Strip module. also where all names have it; or no wrapper name. "
            "[default: those that leaked]",
            key="wrappers",
        )
    )
    optimizer_of: tuple[tuple[str, str], ...] = given(OPTIMIZER_OF)

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `engine.upgrade` does."""
        from dcpctl.surgery.outcome import Change, Outcome
        from dcpctl.surgery.upgrade.engine import upgrade

        made, steps = upgrade(draft, self)
        changes = tuple(Change(step.name, "", step.note) for step in steps if step.changed)
        notes = tuple(
            f"{step.name}: {step.note}" for step in steps if not step.changed and step.note
        )
        return Outcome(made, changes, notes if changes else (*notes, "there is nothing to upgrade"))
