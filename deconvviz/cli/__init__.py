"""Command line: one module per command. Large packages are imported only when a command needs them."""

import sys


def main() -> None:
    """Run the console script ``deconvviz``."""
    try:
        from deconvviz.cli.app import app
        from deconvviz.cli.support.console import escape_unencodable_characters

        escape_unencodable_characters()
        app(prog_name="deconvviz")
    except KeyboardInterrupt:  # raised before a command started
        sys.exit(130)
