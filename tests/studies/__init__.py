"""Measurements behind numbers that the README quotes; run by hand, sampled by the tests."""
