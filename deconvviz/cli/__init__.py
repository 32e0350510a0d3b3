"""The command line: one file a command; parse, call, print. Nothing heavy is imported before it is needed."""

import sys


def main() -> None:
    """The console script."""
    try:
        from deconvviz.cli.app import app
        from deconvviz.cli.support.console import escape_what_streams_cannot_show

        escape_what_streams_cannot_show()
        app(prog_name="deconvviz")
    except KeyboardInterrupt:  # so early that no command had begun
        sys.exit(130)
