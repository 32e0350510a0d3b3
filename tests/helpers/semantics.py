"""The second implementation of the projection rules, which is a part of the package (`--verify` uses it).

It imports nothing of the engine: tests/verification/test_independence.py checks that.
"""

from __future__ import annotations

from deconvviz.verification.semantics import Semantics as Semantics
from deconvviz.verification.semantics import audit as audit
from deconvviz.verification.semantics import dimensions as dimensions
from deconvviz.verification.semantics import interpolation as interpolation
