"""Helpers shared by tests: independent reference implementations, small networks and comparisons."""
