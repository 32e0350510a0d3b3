"""The page on which every figure is drawn: sizes, text, labels, footer and saving."""
