"""Panels of lines with axes, bands, reference lines and one legend."""
