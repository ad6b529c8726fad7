"""Arrays: .npz with `x` and `y`, and `x_test` and `y_test` if the data has a test part of its own. Nothing is unpickled."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np

from evosearch.dataset.source import DataError
from evosearch.dataset.table import MOST_VALUES, Array, Table

NAMES = ("x", "y", "x_test", "y_test")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(data: bytes) -> Table:
    """What `numpy.savez(file, x=..., y=...)` wrote. Raises DataError, and what zipfile and numpy raise for a file that is not whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if not {"x", "y"} <= set(held) or ("x_test" in held) != ("y_test" in held):
            raise DataError(f"a .npz has the arrays x and y, and both x_test and y_test or neither; received {', '.join(held)[:80] or 'none'}: rename them")
        found = {name: _array(archive, name) for name in NAMES if name in held}
    inputs, test_inputs = _inputs(found["x"], "x"), _inputs(found["x_test"], "x_test") if "x_test" in found else None
    if test_inputs is None:
        return Table(inputs, _targets(found["y"], "y"))
    if test_inputs.shape[1:] != inputs.shape[1:]:
        raise DataError(f"x and x_test have one shape but for the first size; received {inputs.shape} and {test_inputs.shape}")
    return Table(inputs, _targets(found["y"], "y"), test=(test_inputs, _targets(found["y_test"], "y_test")))


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    """One array; its header is held against the limit and the archive's own figure before anything is unpacked."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as stream:
        read_header = _HEADERS.get(np.lib.format.read_magic(stream))  # type: ignore[arg-type]
        if read_header is None:
            raise DataError(f"`{name}` has fields; an array of numbers has none")
        shape, _, dtype = read_header(stream)  # type: ignore[arg-type]
    if dtype.hasobject:
        raise DataError(f"`{name}` holds Python objects, which are not read; save it as numbers: numpy.asarray({name}, dtype=float)")
    if dtype.kind not in "biufUS":
        raise DataError(f"`{name}` is {dtype}, not numbers or text; encode it as numbers")
    if max(math.prod(shape), info.file_size // max(dtype.itemsize, 1)) > MOST_VALUES or info.file_size > 8 * MOST_VALUES:
        raise DataError(f"at most {MOST_VALUES} values; `{name}` {shape} unpacks to {info.file_size >> 20} MiB: take a part of it")
    if math.prod(shape) * dtype.itemsize > info.file_size:
        raise DataError(f"`{name}` says {shape} of {dtype}, and the file holds {info.file_size} bytes of it: it is cut short")
    return np.lib.format.read_array(io.BytesIO(archive.read(info)), allow_pickle=False)


def _inputs(x: Array, name: str) -> Array:
    if x.dtype.kind not in "biuf":
        raise DataError(f"`{name}` is {x.dtype}, not numbers; encode text as numbers")
    if x.ndim not in (2, 3, 4) or not math.prod(x.shape[1:]):
        raise DataError(f"`{name}` is rows (N, D), gray images (N, H, W) or images (N, C, H, W); received {x.shape}")
    if x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] > 4:
        raise DataError(f"images are (N, C, H, W), and `{name}` {x.shape} has its colors last; save {name}.transpose(0, 3, 1, 2)")
    x = x[:, None] if x.ndim == 3 else x
    return x if x.dtype in (np.uint8, np.float32) and x.dtype.isnative else x.astype(np.float64)


def _targets(y: Array, name: str) -> Array:
    numbers = y.dtype.kind == "f"
    if y.ndim == 2 and (numbers or y.shape[1] == 1):
        return y if numbers else y[:, 0]
    if y.ndim != 1:
        raise DataError(f"`{name}` is classes (N,), whole numbers or text, or floats (N,) or (N, K); received {y.dtype} {y.shape}")
    return y
