"""The sheet: one image, its units, their patches and projections."""
