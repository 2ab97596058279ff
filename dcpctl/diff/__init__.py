"""What differs between two checkpoints: layouts, keys, optimizer, values, and what would load."""
