"""The exception for networks that the second implementation does not know."""

from __future__ import annotations


class Unverifiable(NotImplementedError):
    """A projection cannot be computed by the second implementation.

    The message is a clause: ``there is no second implementation of ExpBackward0``.
    """
