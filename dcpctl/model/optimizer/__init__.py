"""What a checkpoint says of its optimizer; `view.OptimizerView` is the way in.

naming (what an FQN says) -> collect (entries to optimizers) -> kind, parameters, coverage,
groups, verdict -> view. Nothing here imports torch or reads a tensor larger than a scalar.
"""
