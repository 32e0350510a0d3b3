"""deconvviz: what in this picture made this unit fire? (Zeiler & Fergus, 2013)"""

__version__ = "0.1.0"
