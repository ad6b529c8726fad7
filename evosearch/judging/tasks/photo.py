"""photo: coordinates to RGB of a photograph (scikit-image), scored by PSNR on pixels held out."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evosearch.judging.tasks import Data, Task

SIDE = 96


@cache
def load(variant: str = "") -> Data:
    """Coordinates `(N, 2)` in [-1, 1] and colors `(N, 3)` in [-1, 1]; a fixed 80 / 10 / 10 split of the pixels."""
    from skimage import data
    from skimage.transform import resize

    image = getattr(data, variant or "astronaut")()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    small = resize(image[top : top + side, left : left + side], (SIDE, SIDE), anti_aliasing=True)
    colors = torch.from_numpy(np.asarray(small, dtype=np.float32)).reshape(-1, 3) * 2 - 1
    axis = torch.linspace(-1, 1, SIDE)
    coordinates = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    order = torch.randperm(len(coordinates), generator=torch.Generator().manual_seed(0))
    eighty, ninety = int(0.8 * len(order)), int(0.9 * len(order))
    parts = [order[:eighty], order[eighty:ninety], order[ninety:]]
    train, validation, test = ((coordinates[part], colors[part]) for part in parts)
    return Data(train, validation, test, outputs=3)


def psnr(output: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of colors in [-1, 1], clipped as an image would be."""
    error = float(F.mse_loss(output.clamp(-1, 1).double(), target.double()))
    return float(10 * np.log10(4 / max(error, 1e-12)))


TASK = Task(
    name="photo",
    what="colors of a photograph (scikit-image) from coordinates",
    license="scikit-image astronaut (NASA, public domain), coffee and chelsea (CC0)",
    load=load,
    loss=F.mse_loss,
    score=psnr,
    batch_size=1024,
    rates={"inr": 6e-2},
)
