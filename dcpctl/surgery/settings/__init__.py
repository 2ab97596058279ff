"""Hyperparameters, steps and other values: finding them, reading new ones, setting them."""
