"""Floor 1: bytes to records; nothing in an input is ever executed."""
