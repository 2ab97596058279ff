"""Floor 4: edits, each a function from draft to draft."""
