"""DCP4xx: what of the form will stand in the way, and in whose?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model import releases
from dcpctl.model.fqn import DDP_WRAPPER, is_flat_parameter, wrappers_in
from dcpctl.model.optimizer.verdict import ABSENT
from dcpctl.model.wrappers import ddp_leaked

_WRAPS = {
    "_orig_mod": "torch.compile",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_fsdp_wrapped_module": "FSDP1",
    "_fpw_module": "FSDP1",
    "module": "DistributedDataParallel",
}
_PYTHON_313 = "pathlib._local."
_OF_A_SYSTEM = ("pathlib.WindowsPath", "pathlib._local.WindowsPath")


@rule("DCP401", INFO, "written by an older torch release")
def older_release(run: Run) -> Iterator[Hit]:
    """The form that the metadata have, and which releases write it."""
    for part in run.checkpoint.parts:
        form = releases.form_of(part.stored)
        if form is not None and form.superseded_for(run.target):
            yield Hit(
                part.located(part.stored.metadata_file),
                f"has the form of torch {form.releases}; newer ones add {form.added_since}",
            )


@rule("DCP402", INFO, "fields are missing from the metadata")
def missing_fields(run: Run) -> Iterator[Hit]:
    """Fields that today's releases write and this checkpoint does not have."""
    for part in run.checkpoint.parts:
        stored = part.stored
        if not stored.form.pickled:
            continue
        have = {name for name, value in stored.fields.items() if value is not None}
        if stored.planner_data is not None:
            have.add("planner_data")
        gone = [name for name in releases.fields_of(run.target) if name not in have]
        if gone:
            yield Hit(
                part.located(stored.metadata_file),
                f"has no {', '.join(gone)}"
                + (
                    "; dcp_to_torch_save and other readers without a state dict need planner_data"
                    if "planner_data" in gone
                    else ""
                ),
            )


@rule("DCP403", WARNING, "names that a wrapper leaked into")
def wrapper_names(run: Run) -> Iterator[Hit]:
    """FQNs that only a model wrapped in the same way asks for."""
    leaked: dict[str, list[str]] = {}
    ddp = ddp_leaked(run.optimizer.sections)
    for fqn in run.checkpoint.entries:
        for wrapper in wrappers_in(fqn):
            if wrapper == DDP_WRAPPER and not ddp:
                continue
            leaked.setdefault(wrapper, []).append(fqn)
    for wrapper, names in leaked.items():
        yield Hit(
            names[0],
            f"{words.count(len(names), 'name')} with {quote(wrapper + '.')} of {_WRAPS[wrapper]}; "
            "a model without that wrapper finds none of them",
        )


@rule("DCP404", ERROR, "param group keys that the target torch asks for are missing")
def group_keys(run: Run) -> Iterator[Hit]:
    """Hyperparameters that the target's optimizer has and the checkpoint's groups have not."""
    target = _target(run)
    for part in run.checkpoint.parts:
        for reason in releases.obstacles(part.stored, target):
            raise CannotRun(f"torch {target} cannot load the metadata: {reason}")
    view = run.optimizer
    if view.verdict == ABSENT and not view.param_groups:
        raise CannotRun("there are no param groups")
    missing: dict[str, list[str]] = {}
    defaults: dict[str, object] = {}
    for key in view.missing_group_keys(target):
        missing.setdefault(key.key, []).append(f"group {key.group}")
        defaults[key.key] = dict(key.defaults) if key.ambiguous else key.default
    for name, groups in missing.items():
        default = defaults[name]
        known = f"its default there is {default!r}"
        if isinstance(default, dict):
            by_kind = ", ".join(f"{value!r} for {kind}" for kind, value in default.items())
            known = f"its default there is {by_kind}"
        if view.param_groups_pickled:
            does = f"loads without it and leaves it out; {known}"
        else:
            does = f'refuses to load it ("Missing key in checkpoint state_dict"); {known}'
        yield Hit(
            "optimizer.param_groups",
            f"has no {quote(name)} in {words.count(len(groups), 'group')}; torch {target} {does}",
            severity=WARNING if view.param_groups_pickled else None,
        )


@rule("DCP405", ERROR, "the target torch cannot read the metadata")
def unreadable_for_target(run: Run) -> Iterator[Hit]:
    """Globals, fields and dtypes of the metadata against what the target release has."""
    target = _target(run)
    for part in run.checkpoint.parts:
        for reason in releases.obstacles(part.stored, target):
            yield Hit(
                part.located(part.stored.metadata_file), f"torch {target} cannot load it: {reason}"
            )


@rule("DCP406", WARNING, "some Pythons cannot read the metadata")
def unreadable_for_python(run: Run) -> Iterator[Hit]:
    """Paths in the pickle that Python 3.12, or another operating system, does not have."""
    for part in run.checkpoint.parts:
        where = part.located(part.stored.metadata_file)
        names = part.stored.globals
        if any(name.startswith(_PYTHON_313) for name in names):
            yield Hit(
                where,
                "was written by Python 3.13 or later and refers to 'pathlib._local', which "
                "Python 3.12 and older cannot load",
            )
        if any(name in names for name in _OF_A_SYSTEM):
            yield Hit(
                where, "was written on Windows and holds a WindowsPath, which loads nowhere else"
            )


@rule("DCP407", WARNING, "no torch release reads this form")
def no_reader(run: Run) -> Iterator[Hit]:
    """Forms that DCP writes and has no reader for."""
    for part in run.checkpoint.parts:
        if part.stored.form.unread:
            yield Hit(part.located(part.stored.metadata_file), part.stored.form.unread)


@rule("DCP408", WARNING, "the metadata needs a framework's own code", security=True)
def foreign_globals(run: Run) -> Iterator[Hit]:
    """Globals of other packages than torch in the metadata pickle."""
    for part in run.checkpoint.parts:
        packages = sorted(
            {name.partition(".")[0] for name in part.stored.globals} - releases.COMMON_PACKAGES
        )
        if packages:
            yield Hit(
                part.located(part.stored.metadata_file),
                f"refers to {words.some(packages)}, without which torch cannot load it",
            )


@rule("DCP409", WARNING, "flattened parameters of FSDP1")
def flat_parameters(run: Run) -> Iterator[Hit]:
    """Entries that are one rank layout's FlatParameters and mean nothing under another."""
    names = [fqn for fqn in run.checkpoint.entries if is_flat_parameter(fqn)]
    if names:
        yield Hit(
            names[0],
            f"{words.count(len(names), 'entry is', 'entries are')} FSDP1's flattened parameters, "
            "which load only into a model wrapped in the same way",
        )


def _target(run: Run) -> str:
    if run.target is None:
        raise CannotRun("torch is not installed here, and --torch names no release")
    return run.target
