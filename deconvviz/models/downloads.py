"""Download the weights that torchvision publishes, and find them in torch's cache."""

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
from deconvviz.paths import reason_of


def fetch(entry: Any, name: str, *, progress: bool = True) -> dict[str, Tensor]:
    """Return the state dict of an entry of torchvision's weights, from torch's cache or by download.

    Progress is written to stderr. A failed download leaves the cache unchanged. Raises DownloadError.
    """
    place = cache_path(entry)
    was_cached = place.exists()
    # torch.hub announces a download on stdout, which is reserved for results
    with contextlib.redirect_stdout(sys.stderr if progress else io.StringIO()):
        try:
            state: dict[str, Tensor] = entry.get_state_dict(
                progress=progress, check_hash=True, map_location="cpu", weights_only=True
            )
        except (OSError, HTTPException, *UNREADABLE) as reason:
            if isinstance(reason, HTTPError):  # the exception keeps the connection open
                reason.close()
            if was_cached:
                raise _broken_in_cache(place, name, reason) from reason
            if not isinstance(reason, OSError | HTTPException):  # downloaded, but not a weights file
                place.unlink(missing_ok=True)
            raise _download_failed(entry, name, place, reason) from reason
    return state


def cached(entry: Any) -> Path | None:
    """Return the cached file of an entry; None if it has not been downloaded."""
    place = cache_path(entry)
    return place if place.is_file() else None


def download_size(entry: Any) -> float | None:
    """Return the size of an entry's file in MiB, as torchvision states it; None if it does not."""
    size: float | None = entry.meta.get("_file_size")
    return size


def cache_path(entry: Any) -> Path:
    """Return the path of an entry's file in torch's cache, TORCH_HOME/hub/checkpoints."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(entry.url).path).name)


def _download_failed(entry: Any, name: str, place: Path, reason: BaseException) -> DownloadError:
    inner = getattr(reason, "reason", None)  # urllib wraps the system's error
    words = reason_of(inner if isinstance(inner, OSError) else reason)
    return DownloadError(
        f"the weights of {name} could not be downloaded from {entry.url}: {words}. "
        f"Save the file as {place}, or give another file with {{option}}, or use {SHIPPED}, which needs no "
        "download",
        option="weights=FILE",
    )


def _broken_in_cache(place: Path, name: str, reason: BaseException) -> DownloadError:
    if isinstance(reason, OSError):
        return DownloadError(f"the weights of {name} at {place} cannot be read: {reason_of(reason)}")
    return DownloadError(
        f"the weights of {name} in the cache are damaged or are not plain tensors: {place}. Delete this file "
        f"to download it again, or give another file with {{option}}, or use {SHIPPED}, which needs no "
        "download",
        option="weights=FILE",
    )
