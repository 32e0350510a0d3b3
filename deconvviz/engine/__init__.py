"""The deconvnet itself: torch only; knows no file, no figure and no command line.

Read it in this order:

    bands.py    how positions of one map see positions of another
    rules/      one class for each ATen operation: what it keeps on the way up, its mirror on the way down
    tape.py     a forward pass, as the list of its calls
    watching.py a network run and stopped: hooks that are put back whatever happens
    forward.py  the way up: a network is run, and its calls are written onto a tape
    windows.py  which positions a unit sees, and the window its signal is carried in
    fields.py   how large receptive fields are
    mirror.py   the way down: the tape walked backwards, rule by rule
    units.py    units, whole channels and other things that can be kept, as the signal that goes down
"""
