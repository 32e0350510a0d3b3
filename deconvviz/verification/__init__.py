"""A second implementation of projections, with torch alone, and the comparison with the engine."""
