"""How tensors lie over ranks, and how they are laid out anew."""
