"""The deconvnet itself: torch only; knows no file, no figure and no command line.

Read it in this order:

    index_maps.py        how positions of one map see positions of another
    layout.py            the shape of a value, and the window in which a unit's signal is carried
    rules/               one class for each ATen operation: what it records, and its projection
    spellings.py         activation functions that a network spells out in several calls
    tape.py              a forward pass, as the list of its calls
    preservation.py      what a forward pass changes in a network, and how it is put back
    hooks.py             a network run and stopped: flags, hooks and locks
    recorder.py          run a network, and write its calls onto a tape
    receptive_fields.py  how large receptive fields are
    units.py             units, whole channels and other things that can be kept, as a signal
    projection_pass.py   replay the tape in reverse, from a layer to the pixels
"""
