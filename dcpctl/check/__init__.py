"""Floor 4: the rules that find what is wrong with a checkpoint."""
