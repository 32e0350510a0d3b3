"""The command line: one file a command; parse, call, print. Nothing heavy is imported before it is needed."""

import sys


def main() -> None:
    """The console script."""
    try:
        from deconvviz.cli.app import app

        app(prog_name="deconvviz")
    except KeyboardInterrupt:  # so early that no command had begun
        sys.exit(130)
