"""A dataset, streamed: the strongest pictures of every channel, their index on disk, and the paper's Figure 2."""
