"""The strongest images of some channels, projected: the paper's Figure 2."""
