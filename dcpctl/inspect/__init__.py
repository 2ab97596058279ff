"""Floor 4: what a checkpoint holds, and whether training can be resumed from it."""
