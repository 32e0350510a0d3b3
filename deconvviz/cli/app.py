"""The ``deconvviz`` command: its sub-commands, and how every one of them ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deconvviz.cli.commands.check import check
from deconvviz.cli.commands.demo import demo
from deconvviz.cli.commands.layers import layers
from deconvviz.cli.commands.models import models
from deconvviz.cli.commands.project import project
from deconvviz.cli.commands.search import search
from deconvviz.cli.commands.topnine import topnine
from deconvviz.cli.support.console import say
from deconvviz.cli.support.details import hide_details
from deconvviz.cli.support.exit_codes import INTERRUPTED, MISTAKE, is_out_of_memory
from deconvviz.cli.support.panels import DATASET, LOOK, NETWORK
from deconvviz.errors import DeconvvizError
from deconvviz.printable_names import printable
from deconvviz.version import __version__

_USAGE_ERROR: Any = typer.BadParameter.__base__  # typer carries a copy of click, or uses click itself


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Escape what a terminal must not get from the words that an error quotes."""
    try:
        yield
    except Exception as error:
        if isinstance(error, _USAGE_ERROR):
            error.message = printable(error.message)
        raise


class Commands(TyperGroup):
    """Turns errors into one message and an exit code; a bug keeps its traceback."""

    def make_context(self, *args: Any, **settings: Any) -> Any:
        with _printable_usage_errors():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _printable_usage_errors():
                return super().invoke(ctx)
        except DeconvvizError as error:
            say(f"deconvviz: {error.on_command_line()}")
            raise typer.Exit(MISTAKE) from None
        except KeyboardInterrupt:
            say("deconvviz: interrupted; every file that was written is whole")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # stdout was closed by its reader, as by "| head"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            say("deconvviz: out of memory; give less to it (--memory), or ask for a shallower layer")
            raise typer.Exit(MISTAKE) from None
        finally:
            hide_details()


def _version(asked: bool) -> None:
    if asked:
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
    """What in this picture made this unit fire?

    The Zeiler-Fergus deconvnet (2013) for convolutional networks in PyTorch: one forward pass is recorded,
    and chosen activations are projected back to pixels.
    """


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    LOOK: (project, demo),
    DATASET: (search, topnine),
    NETWORK: (layers, models, check),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
