"""Tile grids: rows and columns of tiles with labels and shared colour scales."""
