"""Weights that torchvision publishes: download them, and where they are kept."""

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
from deconvviz.models.catalog import SHIPPED
from deconvviz.models.checkpoints import UNREADABLE
from deconvviz.paths import spoken


def fetch(entry: Any, name: str, *, progress: bool = True) -> dict[str, Tensor]:
    """Return the state dict of an entry of torchvision's weights, from torch's cache or its address.

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
                raise _broken_in_cache(place, name, reason) from reason
            if not isinstance(reason, OSError | HTTPException):  # it was fetched, but is no weights file
                place.unlink(missing_ok=True)
            raise _not_fetched(entry, name, place, reason) from reason
    return state


def cached(entry: Any) -> Path | None:
    """Return the file of an entry on this machine, if it was downloaded."""
    place = cache_path(entry)
    return place if place.is_file() else None


def download_size(entry: Any) -> float | None:
    """Return the size of an entry's file in megabytes (2**20), as torchvision states it."""
    size: float | None = entry.meta.get("_file_size")
    return size


def cache_path(entry: Any) -> Path:
    """Return where torch keeps the file of an entry: TORCH_HOME/hub/checkpoints."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(entry.url).path).name)


def _not_fetched(entry: Any, name: str, place: Path, reason: BaseException) -> DownloadError:
    inner = getattr(reason, "reason", None)  # urllib wraps what the system said
    words = spoken(inner if isinstance(inner, OSError) else reason)
    return DownloadError(
        f"the weights of {name} could not be fetched from {entry.url}: {words}. "
        f"A file fetched by other means is looked for at {place}; or give one with {{option}}; "
        f"{SHIPPED} needs no download",
        option="weights=FILE",
    )


def _broken_in_cache(place: Path, name: str, reason: BaseException) -> DownloadError:
    if isinstance(reason, OSError):
        return DownloadError(f"the weights of {name} at {place} cannot be read: {spoken(reason)}")
    return DownloadError(
        f"the weights of {name} at {place} are broken, or no plain tensors: delete that file, and they are "
        f"fetched again; or give another with {{option}}; {SHIPPED} needs no download",
        option="weights=FILE",
    )
