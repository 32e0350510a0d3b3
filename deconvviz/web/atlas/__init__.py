"""Atlas: a folder of static pages with one page for each channel of a search.

`build.atlas` makes the folder: `plan` decides what to make, `chunk` projects some channels of a layer and
writes their images and numbers, and `finish` writes the pages from these numbers. `check` verifies a folder.
"""
