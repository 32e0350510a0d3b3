"""Weights that torchvision publishes: where they are kept, and fetching them."""

from __future__ import annotations

import contextlib
import io
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
from torch import Tensor

from deconvviz.errors import DownloadError
from deconvviz.models import minivgg
from deconvviz.models.catalog import SHIPPED
from deconvviz.models.checkpoints import UNREADABLE
from deconvviz.models.torchvision_models import default_entry
from deconvviz.paths import spoken


def fetch(entry: Any, name: str, *, progress: bool = True) -> dict[str, Tensor]:
    """The state dict of an entry of torchvision's weights, from torch's cache or from its address.

    Progress goes to stderr. After a failure the cache is as it was. Raises DownloadError.
    """
    place = cache_path(entry)
    had = place.exists()
    # torch.hub announces a download on stdout, which belongs to the results
    with contextlib.redirect_stdout(sys.stderr if progress else io.StringIO()):
        try:
            state: dict[str, Tensor] = entry.get_state_dict(
                progress=progress, check_hash=True, map_location="cpu", weights_only=True
            )
        except (OSError, HTTPException, *UNREADABLE) as reason:
            if isinstance(reason, HTTPError):  # it holds the connection
                reason.close()
            if had:
                raise DownloadError(_broken_in_cache(place, name, reason)) from reason
            if not isinstance(reason, OSError | HTTPException):  # it was fetched, but is no weights file
                place.unlink(missing_ok=True)
            raise DownloadError(_not_fetched(entry, name, place, reason)) from reason
    return state


def cached(name: str) -> Path | None:
    """Where a network's default weights lie on this machine, if they do."""
    place = minivgg.WEIGHTS if name == SHIPPED else cache_path(default_entry(name))
    return place if place.is_file() else None


def download_size(name: str) -> float | None:
    """What a network's default weights weigh, in megabytes (2**20), as torchvision says; 0 if shipped."""
    if name == SHIPPED:
        return 0.0
    entry: Any = default_entry(name)
    size: float | None = entry.meta.get("_file_size")
    return size


def cache_path(entry: Any) -> Path:
    """Where torch keeps the file of an entry: TORCH_HOME/hub/checkpoints."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(entry.url).path).name)


def _not_fetched(entry: Any, name: str, place: Path, reason: BaseException) -> str:
    inner = getattr(reason, "reason", None)  # urllib wraps what the system said
    words = spoken(inner if isinstance(inner, OSError) else reason)
    return (
        f"the weights of {name} could not be fetched from {entry.url}: {words}. "
        f"A file fetched by other means is looked for at {place}; or give one with --weights FILE "
        f"(weights=FILE); {SHIPPED} needs no download"
    )


def _broken_in_cache(place: Path, name: str, reason: BaseException) -> str:
    if isinstance(reason, OSError):
        return f"the weights of {name} at {place} cannot be read: {spoken(reason)}"
    return (
        f"the weights of {name} at {place} are broken, or no plain tensors: delete that file, and they are "
        f"fetched again; or give another with --weights FILE (weights=FILE); {SHIPPED} needs no download"
    )
