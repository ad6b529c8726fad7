"""Images: a folder by class, and CIFAR-10 and CIFAR-100 in their published binary form. The only file with PIL."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import numpy as np
from PIL import Image

from evosearch.dataset.source import DataError
from evosearch.dataset.table import MOST_VALUES, Array, Table

MODES = {"1": "L", "P": "RGB"}  # black and white, and palettes, as what they show
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
PIXELS = 3 * 32 * 32


def read_folder(content: Mapping[str, bytes]) -> Table:
    """Images `(N, C, H, W)` of `class/name`, the classes' names as targets. Raises DataError."""
    images: list[Array] = []
    first = ""
    for name, data in content.items():
        image = _pixels(name, data, len(content))
        if images and image.shape != images[0].shape:
            raise DataError(f"all images have one size and number of colors; `{first}` is {_size(images[0])} and `{name[-80:]}` is {_size(image)}: resize them")
        first = first or name[-80:]
        images.append(image)
    targets = np.array([name.partition("/")[0] for name in content], dtype=np.str_)
    return Table(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)), targets)


def _pixels(name: str, data: bytes, count: int) -> Array:
    """`(H, W, C)`; the size is held against the limit before anything is unpacked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                mode = MODES.get(image.mode, image.mode)
                if mode not in CHANNELS:
                    raise DataError(f"`{name[-80:]}` has the colors {mode}; save it in gray, RGB or RGBA of 8 bits")
                if image.width * image.height * CHANNELS[mode] * count > MOST_VALUES:
                    raise DataError(f"at most {MOST_VALUES} values; received {count} images, one of {image.width}x{image.height}: shrink them, or take a part")
                return np.atleast_3d(np.asarray(image.convert(mode), dtype=np.uint8))
    except DataError:
        raise
    except Exception as error:  # what a decoder may raise of bytes that are no image
        raise DataError(f"`{name[-80:]}` is not a whole .png or .jpg ({type(error).__name__}); replace or remove it") from error


def _size(image: Array) -> str:
    return f"{image.shape[1]}x{image.shape[0]} of {image.shape[2]} colors"


def read_cifar(content: Mapping[str, bytes], labels: int) -> Table:
    """Records of `labels` bytes (1: CIFAR-10; 2: CIFAR-100, whose last, the fine one, counts) and 3x32x32 pixels. Raises DataError."""
    tests = [name for name in content if name.startswith("test")]
    train, test = (_records({n: d for n, d in content.items() if (n in tests) == own}, labels) for own in (False, True))
    return Table(*train, test=test)


def _records(content: Mapping[str, bytes], labels: int) -> tuple[Array, Array]:
    size, classes = labels + PIXELS, 10 if labels == 1 else 100
    for name, data in content.items():
        if not data or len(data) % size:
            raise DataError(f"`{name}` holds records of {size} bytes; received {len(data)} bytes: it is cut short, fetch it again")
    rows = np.concatenate([np.frombuffer(data, dtype=np.uint8).reshape(-1, size) for data in content.values()])
    answers = rows[:, labels - 1].astype(np.int64)
    if answers.max() >= classes:
        raise DataError(f"labels run from 0 to {classes - 1}; received {answers.max()} in {', '.join(content)[:80]}: this is not CIFAR-{classes}")
    return rows[:, labels:].reshape(-1, 3, 32, 32), answers
