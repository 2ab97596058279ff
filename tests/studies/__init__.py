"""Measurements behind numbers that docs/studies quotes; run by hand, sampled by the tests."""
