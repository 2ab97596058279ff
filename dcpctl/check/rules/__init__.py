"""The rules, one file a family (two where one would be long); see `dcpctl.check.registry`."""
