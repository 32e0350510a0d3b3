"""Panels: rows of tile grids and curves in one figure."""
