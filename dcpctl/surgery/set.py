"""`set`: hyperparameters, steps and other values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcpctl.errors import UsageError, quote
from dcpctl.surgery.options import Option, flag, given, settings, texts
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Text:
    """A value as it was typed; what it means depends on what it replaces."""

    text: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """What to set to what.

    Attributes:
        target: an FQN, a glob, a member of a pickled value by the FQN that it would have, or the
            bare name of a hyperparameter or of a state slot.
        value: a plain value, or `Text`, which is read in the type of the present value.
    """

    target: str
    value: Any


def assignment(text: str) -> Assignment:
    """Read `FQN=VALUE`.

    Raises:
        UsageError: it has no `=`, or nothing before it.
    """
    target, sign, value = text.partition("=")
    if not sign or not target:
        raise UsageError(f"expected FQN=VALUE, got {quote(text)}")
    return Assignment(target, Text(value))


@dataclass(frozen=True, slots=True)
class Set(Verb):
    """Set hyperparameters, steps or any other value.

    KEY is a whole key, a glob, or the bare name of a hyperparameter (all param groups) or of a
    state slot (all parameters): lr, weight_decay, betas, step. A value keeps its type, and a tensor
    its dtype and shape; a negative lr or a beta of 1 is refused as torch would. Values are written
    1e-4, true, null, 0.9,0.95 or 'text'.

    --add gives param groups a key that they lack, in whatever form they are stored: a scheduler
    that resumes asks for initial_lr. KEY is the key alone (all groups) or a place with globs, such
    as optimizer.param_groups.*.initial_lr; @lr stands for what the same group has for lr. Groups
    that have the key keep it.

    Examples:
      dcpctl set sample_checkpoints/healthy/step-8500 out/slow lr=1e-4 weight_decay=0.05
      dcpctl set out/slow optimizer.param_groups.0.betas=0.9,0.99 --in-place
      dcpctl set sample_checkpoints/healthy/step-8500 out/late step=9000 train_state.step=9000
      dcpctl set sample_checkpoints/legacy out/base --add initial_lr=3e-4
    """

    verb = "set"
    order = 60
    needs = ("assignments", "added")

    assignments: tuple[Assignment, ...] = given(
        Option(
            (),
            settings(assignment, Assignment),
            metavar="KEY=VALUE",
            help="lr=1e-4 sets all param groups.",
            key="values",
            step="Set a value.",
        ),
        Option(
            (),
            texts(lambda target: Assignment(target, None)),
            help="Keys to set to null.",
            key="null",
            in_file=True,
        ),
    )
    added: tuple[Assignment, ...] = given(
        Option(
            ("--add",),
            settings(assignment, Assignment),
            metavar="KEY=VALUE",
            help="Give param groups a key that they lack; =@lr.",
            key="add",
        )
    )
    change_type: bool = given(
        Option(
            ("--change-type",),
            flag(),
            help="Take values of another type.",
            key="change_type",
        )
    )
    fill: bool = given(
        Option(
            ("--fill",),
            flag(),
            help="Set every element of tensors that have several.",
            key="fill",
        )
    )

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `settings.add.add` does, and then `settings.assign.assign`."""
        from dcpctl.surgery.settings.add import add
        from dcpctl.surgery.settings.assign import assign

        draft, changes, notes = add(draft, self.added) if self.added else (draft, [], [])
        done = assign(draft, self.assignments, change_type=self.change_type, fill=self.fill)
        return dataclasses.replace(
            done, changes=(*changes, *done.changes), notes=(*notes, *done.notes)
        )
