"""The ``deconvviz`` command: its sub-commands, and how every one of them ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deconvviz import __version__
from deconvviz.cli.commands.check import check
from deconvviz.cli.commands.demo import demo
from deconvviz.cli.commands.layers import layers
from deconvviz.cli.commands.models import models
from deconvviz.cli.commands.project import project
from deconvviz.cli.commands.search import search
from deconvviz.cli.commands.topnine import topnine
from deconvviz.cli.support.console import say
from deconvviz.cli.support.exit_codes import INTERRUPTED, MISTAKE, is_out_of_memory
from deconvviz.errors import DeconvvizError


class Commands(TyperGroup):
    """Turns what went wrong into one message and an exit code; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DeconvvizError as error:
            say(f"deconvviz: {error}")
            raise typer.Exit(MISTAKE) from None
        except KeyboardInterrupt:
            say("deconvviz: interrupted; every file that was written is whole")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader of our output has gone (| head)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            say("deconvviz: out of memory; give less to it (--memory), or ask for a shallower layer")
            raise typer.Exit(MISTAKE) from None


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
    chosen activations are kept, and carried back down to the pixels.
    """


for _command in (project, search, topnine, check, layers, models, demo):
    app.command()(_command)
