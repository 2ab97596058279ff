"""The steps, one file each; see `dcpctl.surgery.upgrade.engine`."""
