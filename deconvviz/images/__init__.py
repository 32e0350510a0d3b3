"""From an image file or array to RGB pixels, and on to the input of a network."""
