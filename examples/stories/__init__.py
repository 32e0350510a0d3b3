"""What the larger examples are made of. Each story begins in a script in `examples/`."""
