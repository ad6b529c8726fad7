"""Whether a device is there: asked by the driver before anything is written or trained."""

from __future__ import annotations

import re

import torch


def check_device(device: str) -> None:
    """Raises ValueError for a device that this machine's torch does not have."""
    cuda = re.fullmatch(r"cuda(?::(\d{1,4}))?", device)
    if device != "cpu" and not (cuda and torch.cuda.is_available() and int(cuda[1] or 0) < torch.cuda.device_count()):
        raise ValueError(f"`{device[:40]}` is not there (torch {torch.__version__} sees no such device); use cpu")
