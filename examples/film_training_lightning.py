"""Film the training of minivgg with Lightning: a callback gives the network to the recorder after each epoch.

The same as `film_training.py`, where the training loop is written out.
"""

import lightning
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import deconvviz as dv
from deconvviz.models.minivgg import MEAN, SIZE, STD, minivgg
from deconvviz.scenes import CLASSES, scene

EPOCHS, BATCHES, BATCH = 3, 3, 16


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = minivgg()

    def training_step(self, batch):
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Film(lightning.Callback):
    """Records the network before the training and after each epoch that the recorder wants."""

    def __init__(self, recorder):
        self.recorder = recorder

    def on_train_start(self, trainer, module):
        self.recorder.record(0)

    def on_train_epoch_end(self, trainer, module):
        self.recorder.record(trainer.current_epoch + 1)

    def on_fit_end(self, trainer, module):
        print("\n".join(self.recorder.finish().summary()))


torch.manual_seed(0)
drawn = [scene(seed) for seed in range(1000, 1000 + BATCHES * BATCH)]
images = torch.from_numpy(np.stack([one.image for one in drawn])).permute(0, 3, 1, 2).float() / 255
data = TensorDataset((images - MEAN[0]) / STD[0], torch.tensor([one.label for one in drawn]))

classifier = Classifier()
net = dv.Network(classifier.network, size=SIZE, mean=MEAN, std=STD, classes=CLASSES, name="minivgg")
recorder = dv.EvolutionRecorder(
    net,
    "scenes:16",
    ["features.2", "features.12"],
    channels=3,
    out="filmed-lightning",
    epochs=range(EPOCHS + 1),
    force=True,
)
trainer = lightning.Trainer(
    max_epochs=EPOCHS,
    accelerator="cpu",
    callbacks=[Film(recorder)],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
trainer.fit(classifier, DataLoader(data, batch_size=BATCH))
print("written: filmed-lightning/evolution.png")
