"""Top nine: the strongest images of channels, projected back to pixels (Figure 2 of the paper)."""
