"""A dataset, streamed: the strongest pictures of every channel, the index of them, the paper's Figure 2.

Read it in this order:

    sources/      where pictures come from: ids in a fixed order, and a picture for each
    loader.py     pictures, prepared a batch at a time by worker processes
    peaks.py      the highest position of every channel, while the network runs
    top.py        the k strongest of a stream; what two streams found merges into one
    plan.py       what a search is going to do
    state.py      how far it is, written down now and then
    resuming.py   what an earlier search has left in a folder
    local.py      the pass on one machine; on_ray.py: the same on Ray Data
    index.py      what was found, as tables
    search.py     all of it: `dv.search`
    found.py      a search that is done: asked, kept, opened again
    projecting.py its pictures, carried down; topnine.py: the figure of them
"""
