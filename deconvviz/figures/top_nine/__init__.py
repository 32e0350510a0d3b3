"""Top-nine figures, as Figure 2 of the paper: projections and patches of the strongest units."""
