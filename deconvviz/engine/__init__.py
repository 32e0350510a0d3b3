"""The deconvnet itself: torch only; knows no file, no figure and no command line.

Read it in this order:

    index_maps.py        which input positions an output position sees
    layout.py            the layout of a value, and the window that holds a signal
    rules/               one class for each ATen operation: what it records, and how it projects a signal
    spellings.py         activation functions that a network computes in several calls
    tape.py              a forward pass, as the list of its calls
    preservation.py      what a forward pass changes in a network, and how it is put back
    hooks.py             a network run and stopped: flags, hooks and locks
    recorder.py          run a network, and record its calls on a tape
    receptive_fields.py  how large receptive fields are, and which positions a unit sees
    units.py             units, whole channels and other tensors, as signals
    projection_pass.py   replay the tape in reverse, from a layer to the pixels
    rule_check.py        compare a rule with the vector-Jacobian product of its operation
"""
