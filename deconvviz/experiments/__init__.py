"""The remaining experiments of the paper: Figures 4 to 7 and Table 1, one file or package each."""
