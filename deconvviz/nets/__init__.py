"""Which network: builders, weights, preprocessing, layer names, and the minivgg that ships inside."""
