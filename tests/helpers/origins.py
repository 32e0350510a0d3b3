"""Origins of tensors, for the second implementation of the projection rules (see helpers.semantics)."""

from __future__ import annotations

from deconvviz.verification.origins import forms as forms
from deconvviz.verification.origins import is_zero as is_zero
from deconvviz.verification.origins import overwrites as overwrites
