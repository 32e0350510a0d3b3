"""A dataset, streamed: the strongest pictures of every channel, the index of them, the paper's Figure 2."""
