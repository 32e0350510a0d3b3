"""Figures of curves: panels with axes, bands, reference lines and one legend."""
