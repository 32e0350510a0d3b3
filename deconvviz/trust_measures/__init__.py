"""Measures of trust: how far the maps of a method can be believed, each against a baseline."""
