"""Commands, one per module: parse arguments, call the library, print the result."""
