"""denoise: 16x16 patches of photographs (scikit-image, in gray) with noise added, back to the clean ones, scored by PSNR.

The noise is synthetic: Gaussian, deviation 0.2 of a range of 2, drawn once by a fixed seed. Regions are columns of each
photograph, no pixel is in two. License: camera, coffee, chelsea CC0; astronaut NASA, public domain.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evosearch.judging.tasks import Data, Split, Task
from evosearch.judging.tasks.photo import psnr

SIZE, NOISE = 16, 0.2
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee")
REGIONS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}  # shares of the columns


@cache
def load(variant: str = "") -> Data:
    """Noisy patches `(N, 1, 16, 16)` and the clean ones, in [-1, 1] before the noise."""
    from skimage import data
    from skimage.color import rgb2gray
    from skimage.transform import rescale

    photographs = [np.asarray(getattr(data, name)(), dtype=np.float64) / 255 for name in PHOTOGRAPHS]
    grays = [rescale(rgb2gray(p) if p.ndim == 3 else p, 0.5, anti_aliasing=True) for p in photographs]
    images = [torch.from_numpy(gray).float() * 2 - 1 for gray in grays]
    generator = torch.Generator().manual_seed(0)
    train, validation, test = (_noisy(_patches(images, *REGIONS[region]), generator) for region in REGIONS)
    return Data(train, validation, test, outputs=SIZE * SIZE)


def _patches(images: list[Tensor], first: float, last: float) -> Tensor:
    parts = [image[:, round(first * image.shape[1]) : round(last * image.shape[1])] for image in images]
    return torch.cat([part.unfold(0, SIZE, SIZE).unfold(1, SIZE, SIZE).reshape(-1, 1, SIZE, SIZE) for part in parts])


def _noisy(clean: Tensor, generator: torch.Generator) -> Split:
    return clean + NOISE * torch.randn(clean.shape, generator=generator), clean


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean square error, of patches or of their flattened pixels."""
    return F.mse_loss(output.flatten(1), target.flatten(1))


TASK = Task(
    name="denoise",
    what="photographs of scikit-image with synthetic noise, cleaned patch by patch",
    license="scikit-image camera, coffee, chelsea (CC0) and astronaut (NASA, public domain)",
    load=load,
    loss=loss,
    score=lambda output, target: psnr(output.flatten(1), target.flatten(1)),
    batch_size=32,
    rates={"dncnn": 1e-2, "mlp": 3e-3},
)
