"""Pictures made by optimisation: inversion of a layer, and activation maximisation."""
