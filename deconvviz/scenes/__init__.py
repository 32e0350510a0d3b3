"""Generated images of objects that consist of named parts, with a mask for each part.

Needs numpy and Pillow only.
"""

from deconvviz.scenes.compose import CLASSES, Scene, scene, scenes

__all__ = ["CLASSES", "Scene", "scene", "scenes"]
