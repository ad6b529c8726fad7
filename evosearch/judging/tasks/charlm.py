"""charlm: next character of the Python documentation topics (standard library), cross-entropy in nats."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from evosearch.judging.tasks import Data, Split, Task

CONTEXT = 48
LETTERS = "\n" + "".join(chr(c) for c in range(32, 127))


@cache
def load(variant: str = "") -> Data:
    """Windows of characters `(N, 48)` and the characters that follow them; the text is cut in three, in order."""
    from pydoc_data.topics import topics

    text = "".join(topics[name] for name in sorted(topics))
    codes = torch.tensor([LETTERS.index(c) for c in text if c in LETTERS])
    first, second = int(0.9 * len(codes)), int(0.95 * len(codes))
    return Data(_windows(codes[:first]), _windows(codes[first:second], 256), _windows(codes[second:], 256), outputs=len(LETTERS))


def _windows(codes: Tensor, most: int | None = None) -> Split:
    windows = codes[: (len(codes) - 1) // CONTEXT * CONTEXT + 1].unfold(0, CONTEXT + 1, CONTEXT)
    if most is not None:
        windows = windows[:: max(1, len(windows) // most)][:most]
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy; `output` `(N, T, letters)`, `target` `(N, T)`."""
    return F.cross_entropy(output.flatten(0, 1), target.flatten())


TASK = Task(
    name="charlm",
    what="the next character of the Python documentation topics (standard library)",
    license="CPython's pydoc_data.topics: PSF",
    load=load,
    loss=loss,
    score=lambda output, target: float(loss(output.double(), target)),
    batch_size=8,
    rates={"transformer": 5e-3},
)
