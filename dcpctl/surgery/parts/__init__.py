"""Checkpoints of several parts: each edited alone, or all put together."""
