"""Rows by columns of tiles with labels and shared colour scales."""
