"""What can go wrong, as one tree. Every message says what was asked, what there is, and what to do.

DeconvvizError               everything a user can mend; the command line prints it and exits 2
├── ImageError               an image file that is missing, broken, too large, or not an image
├── NetworkError             a network that is not known, or cannot be built or run as asked
├── WeightsError             a weights file that is missing, unsafe, or made for another network
│   └── DownloadError        weights that could not be fetched
├── LayerError               a layer that this network does not have
├── UnitError                a channel, position, class or count outside the layer
├── RefusedOp                an operation on the way down that has no rule
├── RuleError                a rule that does not project as its operation requires (see `check_rule`)
├── SourceError              a source of pictures that is missing, empty, or cannot be read
├── SearchError              a search that is not there, not whole, or not what was asked for
├── StaleRecording           something was changed that the recording still needs
├── DeviceError              a device that this machine does not have
├── ManifestError            a manifest that cannot be read, or that no longer describes what is there
├── FigureError              a figure that cannot be drawn as it was asked for
└── OutputError              a file or folder that cannot be written
"""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.printable_names import printable


class DeconvvizError(Exception):
    """The root of every error that deconvviz raises on purpose.

    `option` is an argument that helps, as Python has it (``force=True``, ``weights=FILE``), or several of
    them. A message names them in order with ``{option}``: for a Python user they are arguments, on the
    command line they are flags. Whatever names a message holds, it is one line that a terminal can show.
    """

    def __init__(self, message: str = "", *, option: str | Sequence[str] = ()) -> None:
        self.message = printable(message)
        self.options = tuple(map(printable, (option,) if isinstance(option, str) else option))
        super().__init__(self._with(self.options))

    def on_command_line(self) -> str:
        """The message with flags (``--force``, ``--weights FILE``) in place of the arguments."""
        return self._with(tuple(map(_flag, self.options)))

    def _with(self, options: Sequence[str]) -> str:
        text = self.message
        for option in options:
            text = text.replace("{option}", option, 1)
        return text


_FLAGS = {"whole_fields": "no-border"}  # flags that are not called like the argument


def _flag(option: str) -> str:
    name, _, value = option.partition("=")
    flag = _FLAGS.get(name, name.replace("_", "-"))
    return f"--{flag}" + (f" {value}" if value not in ("", "True") else "")


class ImageError(DeconvvizError):
    """An image file that is missing, broken, too large, or not an image."""


PictureError = ImageError  # its name before 0.2


class NetworkError(DeconvvizError):
    """A network that is not known, or cannot be built or run as asked."""


class WeightsError(DeconvvizError):
    """A weights file that is missing, unsafe, or made for another network."""


class DownloadError(WeightsError):
    """Weights that could not be fetched."""


class LayerError(DeconvvizError):
    """A layer that this network does not have."""


class UnitError(DeconvvizError):
    """A channel, position, class or count outside the layer."""


class RefusedOp(DeconvvizError):
    """An operation on the way down that has no rule."""


class RuleError(DeconvvizError):
    """A rule that does not project as its operation requires (see `check_rule`)."""


class SourceError(DeconvvizError):
    """A source of pictures that is missing, empty, or cannot be read."""


class SearchError(DeconvvizError):
    """A search that is not there, not whole, or not what was asked for."""


class StaleRecording(DeconvvizError):
    """Something was changed that the recording still needs."""


class DeviceError(DeconvvizError):
    """A device that this machine does not have."""


class ManifestError(DeconvvizError):
    """A manifest that cannot be read, or that no longer describes what is there."""


class FigureError(DeconvvizError):
    """A figure that cannot be drawn as it was asked for."""


class OutputError(DeconvvizError):
    """A file or folder that cannot be written."""
