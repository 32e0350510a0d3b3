"""A report: one HTML file made of results, which opens without a server and without network.

`report` validates results and writes the file. It knows results only through their protocol
(`deconvviz.results`), so a new kind of result needs no change here.
"""
