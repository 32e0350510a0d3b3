"""Figure 4 of the paper: how the projections of some channels change during training."""
