"""Floor 0: where the bytes lie; ranged reads that never leave the checkpoint directory."""
