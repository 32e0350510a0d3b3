"""A dataset, streamed: the strongest images of every channel.

Read it in this order:

    peak_finder.py    the highest position of every channel, while the network runs
    top_k.py          the k strongest of a stream; what two streams found merges into one
    plan.py           what a search is going to do
    checkpoint.py     its progress, saved now and then
    resume.py         what an earlier search has left in a folder
    engine_local.py   the pass on one machine; engine_ray.py: the same on Ray Data
    tables.py         the results, as Arrow tables
    search.py         all of it: `dv.search`
    search_folder.py  the folder of a search, as far as it is checked without torch
    result.py         a finished search: queried, saved, opened again
"""
