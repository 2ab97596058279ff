"""Upgrade: bring a checkpoint into the form that a torch release loads, values bit for bit.

`engine.upgrade` runs the steps of `steps/` in their order; each is a function from draft to draft
that leaves alone what it has nothing to do with.
"""

from dcpctl.surgery.upgrade.engine import UpgradeOptions, upgrade
from dcpctl.surgery.upgrade.registry import StepReport

__all__ = ["StepReport", "UpgradeOptions", "upgrade"]
