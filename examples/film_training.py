"""Film the training of minivgg: projections of some channels at several epochs, as in Figure 4 of the paper.

The training is short, so that the example takes less than a minute; `train_minivgg.py` is a whole one.
"""

import numpy as np
import torch
from torch.nn import functional as F

import deconvviz as dv
from deconvviz.models.minivgg import MEAN, SIZE, STD, minivgg
from deconvviz.scenes import CLASSES, scene

EPOCHS, BATCHES, BATCH = 3, 3, 16

torch.manual_seed(0)
drawn = [scene(seed) for seed in range(1000, 1000 + BATCHES * BATCH)]
images = torch.from_numpy(np.stack([one.image for one in drawn])).permute(0, 3, 1, 2).float() / 255
inputs = ((images - MEAN[0]) / STD[0]).split(BATCH)
labels = torch.tensor([one.label for one in drawn]).split(BATCH)

net = dv.Network(minivgg(), size=SIZE, mean=MEAN, std=STD, classes=CLASSES, name="minivgg")
recorder = dv.EvolutionRecorder(
    net,
    "scenes:16",
    ["features.2", "features.12"],
    channels=3,
    out="filmed",
    epochs=range(EPOCHS + 1),
    force=True,
)
optimiser = torch.optim.Adam(net.module.parameters(), lr=1e-3)
recorder.record(0)
for epoch in range(1, EPOCHS + 1):
    net.module.train()
    for batch, wanted in zip(inputs, labels, strict=True):
        optimiser.zero_grad()
        loss = F.cross_entropy(net.module(batch), wanted)
        loss.backward()
        optimiser.step()
    print(f"epoch {epoch}: loss {loss:.2f}")
    recorder.record(epoch)

found = recorder.finish()
print("\n".join(found.summary()))
print("written: filmed/evolution.png")
