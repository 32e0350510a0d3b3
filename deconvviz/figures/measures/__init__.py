"""Measures: panels of bars with intervals and baselines, and panels of curves."""
