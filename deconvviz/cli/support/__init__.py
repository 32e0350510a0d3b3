"""Code shared by several commands: options, plans, progress and console output."""
