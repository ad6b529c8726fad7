"""What a path of the user's holds: its form, the files that are read of it, and their hash. Standard library only."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 1 << 30  # of the files that are read; they are read whole
SUFFIXES = (".npz", ".csv", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg")
CIFAR10, CIFAR100 = "test_batch.bin", "train.bin"  # the file by which the published folder is told


class DataError(ValueError):
    """A file cannot be trained on: the rule, what was received, the likely fix, in one line."""


@dataclass(frozen=True)
class DataFile:
    """A file or folder of the user's as it travels: the name of its task, where it is, the SHA-256 of its content, and what it holds."""

    name: str
    path: str  # absolute
    sha256: str
    targets: str  # classes or numbers
    inputs: str  # rows or images


def name_of(path: Path) -> str:
    """The task that a path stands for where no name is given: a file's name without its ending, a folder's name."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def form(path: Path) -> str:
    """`npz`, `csv`, `parquet`, `images`, `cifar-10` or `cifar-100`, by names alone. Raises DataError for anything else."""
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        names = set(os.listdir(path))
        if any(name.startswith("data_batch") and name.endswith(".bin") for name in names) or CIFAR10 in names:
            return "cifar-10"
        return "cifar-100" if CIFAR100 in names else "images"
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"data is a .npz, .csv or .parquet file, a folder of images by class, or a folder of CIFAR's .bin files; received `{path.name[:60]}`")
    return path.suffix.lower().removeprefix(".")


def _mode(path: Path) -> int:
    """The file's mode. Raises DataError unless it is a file or folder itself: no link, device, pipe or socket."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("there is no such file or folder; check the path; if it moved: evosearch run YAML --set data.NAME=PATH --out RUN") from None
    except (OSError, ValueError) as error:
        raise DataError(f"it cannot be looked at: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISLNK(mode):
        raise DataError(f"`{path.name[:60]}` is a symbolic link, which may come to lead elsewhere; give what it leads to: {os.path.realpath(path)[:160]}")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"`{path.name[:60]}` is a device, pipe or socket; data is a regular file or a folder")
    return mode


def contents(path: Path) -> dict[str, bytes]:
    """Every file that counts as data, by its name inside the folder (a lone file has its own), in order. Raises DataError."""
    found = _members(path, form(path))
    size = sum(os.lstat(member).st_size for member in found.values())
    if size > MOST_BYTES:
        raise DataError(f"data is read whole, at most {MOST_BYTES >> 20} MiB; received {size >> 20} MiB: take a part of it")
    try:
        return {name: member.read_bytes() for name, member in sorted(found.items())}
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from error


def sha256(content: Mapping[str, bytes], folder: bool) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it; of a folder, over the lines that `sha256sum` prints of its files in order."""
    each = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    if not folder:
        (only,) = each.values()
        return only
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in each.items()).encode("utf-8", "surrogateescape")).hexdigest()


def _members(path: Path, kind: str) -> dict[str, Path]:
    if kind == "cifar-10":
        return _expected(path, sorted({name for name in os.listdir(path) if name.startswith("data_batch") and name.endswith(".bin")}), CIFAR10)
    if kind == "cifar-100":
        return _expected(path, [CIFAR100], "test.bin")
    return _pictures(path) if kind == "images" else {path.name: path}


def _expected(path: Path, trains: list[str], test: str) -> dict[str, Path]:
    for name in [*(trains or ["data_batch_1.bin"]), test]:
        if not stat.S_ISREG(_mode(path / name) if os.path.lexists(path / name) else 0):
            raise DataError(f"CIFAR's published folder holds data_batch_1.bin ... and test_batch.bin, or train.bin and test.bin; `{name}` is missing")
    return {name: path / name for name in [*trains, test]}


def _pictures(path: Path) -> dict[str, Path]:
    """The images of each class's folder; names that begin with a dot are passed over, as is what stands beside the folders."""
    folders = sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir()))
    found = {}
    for folder in folders:
        _mode(path / folder)
        names = sorted(name for name in os.listdir(path / folder) if not name.startswith("."))
        for name in names:
            if not stat.S_ISREG(_mode(path / folder / name)) or Path(name).suffix.lower() not in PICTURES:
                raise DataError(f"the folder of a class holds .png and .jpg files alone; received `{folder}/{name}`"[:300])
            found[f"{folder}/{name}"] = path / folder / name
        if not names:
            raise DataError(f"the folder of the class `{folder[:60]}` is empty; put images into it, or remove it")
    if len(folders) < 2:
        raise DataError(f"a folder of images has one folder for each class, at least two; received {len(folders)} ({', '.join(folders)[:60] or 'none'})")
    return found
