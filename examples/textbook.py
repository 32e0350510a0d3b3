"""A convolution as a matrix, and its projection as the product with the transposed matrix."""

import torch
from torch import nn

import deconvviz as dv

DATA = torch.tensor([[3.0, 3, 2, 1], [0, 0, 1, 3], [3, 1, 2, 2], [2, 0, 0, 2]])
MASK = torch.tensor([[0.0, 1, 2], [2, 2, 0], [0, 1, 2]])


def show(title, rows):
    print(f"{title}:")
    for row in rows.tolist():
        print("  " + " ".join(f"{number:3g}" for number in row))


class Textbook(nn.Module):
    """A 3x3 convolution without padding and bias (a correlation, as usual in deep learning)."""

    def __init__(self):
        super().__init__()
        self.mask = nn.Conv2d(1, 1, 3, bias=False)
        self.mask.weight = nn.Parameter(MASK[None, None])

    def forward(self, x):
        return self.mask(x)


net = dv.Network(Textbook(), size=4, mean=[0], std=[1], name="textbook")
rec = net.record(DATA[None, None], layers="mask")
result = rec.activations("mask")[0, 0]
show("data", DATA)
show("mask", MASK)
show("valid correlation", result)

# Column k of the matrix C (16 x 4) has the weights of the pixels in the receptive field of unit k. The
# projection of a unit is its column multiplied by its activation.
proj = rec.project("mask", [dv.Unit(0, 0, y, x) for y in (0, 1) for x in (0, 1)])
columns = [one.flatten() / unit.activation for one, unit in zip(proj.pixels, proj.units, strict=True)]
C = torch.stack(columns, dim=1).round(decimals=4)
show("C (the correlation is the data, flattened to a row of 16, times C)", C)
assert torch.equal((DATA.flatten() @ C).reshape(2, 2), result)

# The projection of all four units together is the product with C instead of its transpose.
below = rec.project("mask", result[None, None]).pixels[0, 0]
show("the correlation, projected back", below)
assert torch.equal(C @ result.flatten(), below.flatten())

# This product is a transposed convolution.
assert torch.equal(nn.functional.conv_transpose2d(result[None, None], MASK[None, None])[0, 0], below)
print("The projection through a convolution is the transposed convolution.")
