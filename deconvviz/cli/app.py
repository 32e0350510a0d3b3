"""The ``deconvviz`` command: sub-commands, error messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deconvviz.cli.commands.atlas import atlas
from deconvviz.cli.commands.check import check
from deconvviz.cli.commands.compare import compare
from deconvviz.cli.commands.correspond import correspond
from deconvviz.cli.commands.demo import demo
from deconvviz.cli.commands.evolve import evolve
from deconvviz.cli.commands.explore import explore
from deconvviz.cli.commands.filters import filters
from deconvviz.cli.commands.invariance import invariance
from deconvviz.cli.commands.invert import invert
from deconvviz.cli.commands.layers import layers
from deconvviz.cli.commands.maximise import maximise
from deconvviz.cli.commands.models import models
from deconvviz.cli.commands.occlude import occlude
from deconvviz.cli.commands.project import project
from deconvviz.cli.commands.remake import remake
from deconvviz.cli.commands.report import report
from deconvviz.cli.commands.search import search
from deconvviz.cli.commands.topnine import topnine
from deconvviz.cli.commands.trust import trust
from deconvviz.cli.support.console import print_message
from deconvviz.cli.support.details import hide_details
from deconvviz.cli.support.exit_codes import INTERRUPTED, MISTAKE, NOT_VERIFIED, is_out_of_memory
from deconvviz.cli.support.panels import DATASET, EXPERIMENTS, LOOK, NETWORK, SHARE, TRUST
from deconvviz.errors import DeconvvizError, VerificationError
from deconvviz.printable_names import printable
from deconvviz.version import __version__

_USAGE_ERROR: Any = typer.BadParameter.__base__  # from click, or from the copy of click inside typer


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Escape control characters in the arguments that an error message quotes."""
    try:
        yield
    except Exception as error:
        if isinstance(error, _USAGE_ERROR):
            error.message = printable(error.message)
        raise


class Commands(TyperGroup):
    """Command group that reports errors as one message and an exit code; bugs keep their traceback."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        with _printable_usage_errors():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _printable_usage_errors():
                return super().invoke(ctx)
        except VerificationError as error:
            print_message(f"deconvviz: {error.on_command_line()}")
            raise typer.Exit(NOT_VERIFIED) from None
        except DeconvvizError as error:
            print_message(f"deconvviz: {error.on_command_line()}")
            raise typer.Exit(MISTAKE) from None
        except KeyboardInterrupt:
            print_message("deconvviz: interrupted. Every file that was written is complete")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # stdout was closed by the reader, e.g. "| head"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            print_message("deconvviz: out of memory. Use a smaller --memory or a shallower layer")
            raise typer.Exit(MISTAKE) from None
        finally:
            hide_details()


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"deconvviz {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="deconvviz",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def deconvviz(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Show which part of an image activates a unit of a convolutional network.

    Deconvolutional networks (Zeiler and Fergus, 2013) for PyTorch. deconvviz
    records one forward pass and projects chosen activations back to pixels.
    """


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    LOOK: (project, explore, demo),
    DATASET: (search, topnine),
    TRUST: (compare, trust),
    EXPERIMENTS: (evolve, invariance, filters, occlude, correspond, invert, maximise),
    SHARE: (report, atlas, remake),
    NETWORK: (layers, models, check),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
