"""textures: 16x16 patches of brick, grass and gravel (scikit-image), 3 classes, split by image column."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from evosearch.judging.tasks import Data, Split, Task, accuracy

SIZE = 16
# columns of the 512x512 photographs; no pixel is in two regions
REGIONS = {"train": (0, 288), "validation": (288, 400), "test": (400, 512)}


@cache
def load(variant: str = "") -> Data:
    """Patches `(N, 1, 16, 16)`, each with mean 0 and deviation 1, so that brightness gives nothing away."""
    from skimage import data

    images = [torch.from_numpy(getattr(data, name)()).float() for name in ("brick", "grass", "gravel")]
    splits = {region: _patches(images, *columns, stride=8 if region == "train" else SIZE) for region, columns in REGIONS.items()}
    return Data(splits["train"], splits["validation"], splits["test"], outputs=3)


def _patches(images: list[Tensor], first: int, last: int, stride: int) -> Split:
    inputs, targets = [], []
    for label, image in enumerate(images):
        patches = image[:, first:last].unfold(0, SIZE, stride).unfold(1, SIZE, stride).reshape(-1, 1, SIZE, SIZE)
        center, spread = patches.mean((1, 2, 3), keepdim=True), patches.std((1, 2, 3), keepdim=True)
        inputs.append((patches - center) / (spread + 1e-3))
        targets.append(torch.full((len(patches),), label))
    return torch.cat(inputs), torch.cat(targets)


TASK = Task(
    name="textures",
    what="photographs of brick, grass and gravel (scikit-image)",
    license="scikit-image brick, grass, gravel: CC0",
    load=load,
    loss=F.cross_entropy,
    score=accuracy,
    batch_size=32,
    rates={"plain-cnn": 2e-2, "resnet": 2e-2, "mobilenet": 3e-2, "mlp": 5e-3, "efficientnet": 1e-2, "convnext": 1e-2, "vit": 5e-3, "stages": 2e-2},
)
