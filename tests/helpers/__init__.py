"""What several tests share: oracles that know nothing of the package, small networks, and comparisons."""
