"""A page of paper: sizes, text, footer, saving."""
