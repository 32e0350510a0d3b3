"""Project the strongest units of two layers, and one class score, back to the pixels of a generated scene."""

from pathlib import Path

import deconvviz as dv
from deconvviz.scenes import scene

out = Path("deconvviz-out")
drawn = scene(seed=11, label="bicycle")

net = dv.load("minivgg")
rec = net.record(drawn.image, layers=["conv3_2", "conv4_2", "output"])

for layer in ("conv3_2", "conv4_2"):
    proj = rec.project(layer, rec.strongest(layer, k=9))
    print(proj)
    print("written:", proj.save(out / f"bicycle-{layer}.png", force=True))

score = rec.project("output", rec.class_unit("bicycle"))
print("written:", score.save(out / "bicycle-class.png", force=True))
