"""Search of a dataset for the strongest images of every channel.

Read the modules in this order:

    peak_finder.py     the strongest position of every channel, found while the network runs
    top_k.py           the k strongest images of every channel; results of two parts can be merged
    exact_sums.py      sums that do not depend on the order of the numbers
    peak_histogram.py  the histogram of the peaks of every channel over all images
    class_sums.py      the sums of the peaks of every channel over the images of each class
    peak_sketch.py     a sketch of the peaks of every channel, for finding similar channels
    summary.py         these three together
    plan.py            the parameters of a search, checked before it begins
    checkpoint.py      state of a search, saved at intervals
    resume.py          existing results in the output folder
    engine_local.py    the pass over the images on one machine
    engine_ray.py      the same pass on Ray Data
    tables.py          the results as Arrow tables
    search.py          `dv.search`
    search_folder.py   names and checks of the files of a search that need neither torch nor pyarrow
    search_files.py    reading and writing the files of a search
    result.py          `dv.Search` and `dv.open_search`
"""
