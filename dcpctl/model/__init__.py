"""Floor 2: the checkpoint as a value; pure and immutable."""
