"""Floor 4: rules that find what is wrong with a checkpoint; no printing.

`engine.run_checks(path, options)` is the way in; `registry` tells how a rule is added.
"""
