"""What several commands need: options, plans, progress, the console."""
