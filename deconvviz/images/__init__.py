"""Read images as RGB pixels, and prepare them as the input of a network."""
