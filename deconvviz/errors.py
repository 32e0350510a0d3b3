"""Tree of all errors. A message says what is wrong, what there is, and what to do.

DeconvvizError               every error that a user can fix; the command line prints it and exits with 2
├── ImageError               an image file that is missing, broken, too large, or not an image
├── NetworkError             a network that is unknown, or cannot be built or run
├── WeightsError             a weights file that is missing, unsafe, or does not fit the network
│   └── DownloadError        weights that could not be downloaded
├── LayerError               a layer that the network does not have
├── UnitError                a channel, position, class or count that the layer does not have
├── MethodError              a method that is unknown, was not recorded, or cannot be used
├── RefusedOp                an operation on the projection path that is unsupported
├── RuleError                a rule that does not project as its operation requires (see `check_rule`)
├── SourceError              a source of images that is missing, empty or unreadable
├── SearchError              a search that is missing, incomplete, or does not match the request
├── StaleRecording           a recording whose weights have changed since
├── DeviceError              a device that this machine does not have
├── ManifestError            a manifest that is unreadable, or does not match the files on disk
├── VerificationError        projections that a second computation does not confirm (exit code 1)
├── RequestError             a request to the explorer that is malformed, or too large
├── MissingExtra             an optional package that is not installed
├── FigureError              a figure that cannot be drawn
└── OutputError              a file or folder that cannot be written
"""

from __future__ import annotations

from collections.abc import Sequence

from deconvviz.printable_names import printable


class DeconvvizError(Exception):
    """Base class of all errors that deconvviz raises on purpose.

    The message is a single line without control characters.

    Args:
        message: Text of the error. Each ``{option}`` in it is replaced by the next entry of `option`.
        option: One or several helpful arguments in Python's form (``force=True``, ``weights=FILE``). The
            command line shows them as flags (``--force``, ``--weights FILE``).
    """

    def __init__(self, message: str = "", *, option: str | Sequence[str] = ()) -> None:
        self.message = printable(message)
        self.options = tuple(map(printable, (option,) if isinstance(option, str) else option))
        super().__init__(self._with(self.options))

    def on_command_line(self) -> str:
        """Return the message with flags (``--force``, ``--weights FILE``) instead of Python arguments."""
        return self._with(tuple(map(_flag, self.options)))

    def _with(self, options: Sequence[str]) -> str:
        text = self.message
        for option in options:
            text = text.replace("{option}", option, 1)
        return text


_FLAGS = {"whole_fields": "no-border"}  # flags whose name differs from that of the argument


def _flag(option: str) -> str:
    name, _, value = option.partition("=")
    flag = _FLAGS.get(name, name.replace("_", "-"))
    if value.startswith("("):  # at=(y, x) is --at Y,X
        value = value.strip("()").replace(" ", "").upper()
    return f"--{flag}" + (f" {value}" if value not in ("", "True") else "")


class ImageError(DeconvvizError):
    """An image file is missing, broken, too large, or not an image."""


PictureError = ImageError  # former name


class NetworkError(DeconvvizError):
    """A network is unknown, or cannot be built or run."""


class WeightsError(DeconvvizError):
    """A weights file is missing, unsafe, or does not fit the network."""


class DownloadError(WeightsError):
    """Weights could not be downloaded."""


class LayerError(DeconvvizError):
    """The network does not have this layer."""


class UnitError(DeconvvizError):
    """The layer does not have this channel, position, class, or number of units."""


class MethodError(DeconvvizError):
    """A method is unknown, was not recorded, or cannot be used for this network."""


class RefusedOp(DeconvvizError):
    """An operation on the projection path is unsupported."""


class RuleError(DeconvvizError):
    """A rule does not project as its operation requires (see `check_rule`)."""


class SourceError(DeconvvizError):
    """A source of images is missing, empty or unreadable."""


class SearchError(DeconvvizError):
    """A search is missing, incomplete, or does not match the request."""


class StaleRecording(DeconvvizError):
    """Weights that a recording refers to have changed since."""


class DeviceError(DeconvvizError):
    """This machine does not have the device."""


class ManifestError(DeconvvizError):
    """A manifest is unreadable, or does not match the files on disk."""


class VerificationError(DeconvvizError):
    """A second computation of projections differs from the first, or does not know the network."""


class RequestError(DeconvvizError):
    """A request to the explorer is malformed, or too large."""


class MissingExtra(DeconvvizError):
    """An optional package is not installed; the message names the extra that has it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra}: pip install 'deconvviz[{extra}]'")


class FigureError(DeconvvizError):
    """A figure cannot be drawn."""


class OutputError(DeconvvizError):
    """A file or folder cannot be written."""
