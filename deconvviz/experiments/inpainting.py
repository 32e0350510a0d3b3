"""Noisy linear imputation: hidden pixels are weighted means of their neighbours, plus noise.

The method is that of Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
(ICML 2022). A neighbour to the side has the weight 1/6 and a diagonal one 1/12; neighbours outside the image
are left out, and the weights of the others are divided by their sum.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deconvviz.errors import ImageError

NOISE = 0.01
"""Standard deviation of the noise, where white is 1 (as in the authors' code)."""

_NEIGHBOURS = (
    *((dy, dx, 1 / 6) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))),
    *((dy, dx, 1 / 12) for dy, dx in ((-1, -1), (-1, 1), (1, -1), (1, 1))),
)

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def imputed(image: Floats, mask: Mask) -> Floats:
    """Return an image (C, H, W) whose pixels in a mask (H, W) are imputed from the others, without noise.

    Raises:
        ImageError: If the mask hides every pixel.
    """
    filled: Floats = image.copy()
    if not mask.any():
        return filled
    if mask.all():
        raise ImageError("a square that hides the whole image cannot be imputed from its neighbours")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
    window = (slice(top, rows[-1] + 2), slice(left, columns[-1] + 2))  # the mask with its neighbours
    local = np.ascontiguousarray(mask[window])
    system = _system(local.tobytes(), local.shape)
    around = filled[:, window[0], window[1]]  # a view
    around[:, local] = system.solve(system.known @ around[:, ~local].T).T
    return filled


class _System(NamedTuple):
    """Equations of the hidden pixels of a mask."""

    solve: Any  # function of the right-hand sides (n, C)
    known: Any  # sparse matrix (n, number of known pixels): weights of the known neighbours


@lru_cache(maxsize=64)
def _system(content: bytes, shape: tuple[int, int]) -> _System:
    """Return the equations of a mask. Where it touches its window, it ends at the border of the image."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import splu

    mask = np.frombuffer(content, np.bool_).reshape(shape)
    number = np.where(mask, np.cumsum(mask).reshape(shape) - 1, np.cumsum(~mask).reshape(shape) - 1)
    y, x = np.nonzero(mask)
    own = number[y, x]
    total = np.zeros(len(y))
    entries: dict[bool, list[Any]] = {True: [], False: []}  # by whether the neighbour is hidden
    for dy, dx, weight in _NEIGHBOURS:
        ny, nx = y + dy, x + dx
        inside = (ny >= 0) & (ny < shape[0]) & (nx >= 0) & (nx < shape[1])
        total += weight * inside
        ny, nx = ny.clip(0, shape[0] - 1), nx.clip(0, shape[1] - 1)
        for hidden in (True, False):
            chosen = inside & (mask[ny, nx] == hidden)
            entries[hidden].append((np.full(chosen.sum(), weight), own[chosen], number[ny, nx][chosen]))
    weights, of, to = (np.concatenate(parts) for parts in zip(*entries[True], strict=True))
    diagonal = np.arange(len(y))
    matrix = coo_matrix(
        (np.concatenate([-weights, total]), (np.concatenate([of, diagonal]), np.concatenate([to, diagonal]))),
        shape=(len(y), len(y)),
    )
    weights, of, to = (np.concatenate(parts) for parts in zip(*entries[False], strict=True))
    known = coo_matrix((weights, (of, to)), shape=(len(y), int((~mask).sum()))).tocsr()
    return _System(splu(matrix.tocsc()).solve, known)
