"""The command line: one file a command; parse, call, print. Nothing heavy is imported before it is needed."""

from deconvviz.cli.app import app, main

__all__ = ["app", "main"]
