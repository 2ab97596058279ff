"""Floor 4: what a training log says about the resumes in it, and whether one lost the optimizer."""
