"""The state of a long training in a file, so that what was interrupted goes on where it was instead of starting over.

One folder a job, one safetensors file a training: weights and buffers, the optimizer's tensors, both random generators, the
losses so far. A training that goes on from it ends in the same bits. Nothing is written during the first `after` seconds
of a job, and then every `after` seconds and at the end of each training, so that a lost worker costs at most twice that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn


@dataclass
class SavedState:
    """The folder of one job's trainings; `after` in seconds."""

    folder: Path
    after: float
    _last: float = field(default_factory=time.monotonic)
    _begun: bool = False

    def file(self, training: str) -> Path:
        """Where the state of a training is; `training` says all that it is a function of."""
        return self.folder / f"{hashlib.sha256(training.encode()).hexdigest()[:32]}.safetensors"

    def is_due(self, at_end: bool) -> bool:
        """Whether to save now: `after` seconds since the last time, or once there is something saved, at the end of a training."""
        return (at_end and self._begun) or time.monotonic() - self._last >= self.after

    def save(self, training: str, tensors: dict[str, Tensor]) -> None:
        """Writes the file whole or not at all. Raises OSError."""
        file = self.file(training)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        with open(partial, "wb") as out:
            out.write(save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}))  # tied ones are one tensor
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, file)
        self._last, self._begun = time.monotonic(), True

    def load(self, training: str) -> dict[str, Tensor] | None:
        """What was saved of the training, if anything. Raises OSError for a file that cannot be read as it was written."""
        file = self.file(training)
        try:
            found = load_file(file)
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            raise OSError(f"{file} is damaged ({error}): delete it, and the training starts over") from error
        self._begun = True
        return found

    def remove(self) -> None:
        """The job is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Saved:
    """One training's place in a job's saved states; `training` says all that it is a function of besides the layer."""

    states: SavedState
    training: str

    def keep(self, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator, losses: list[float], at_end: bool) -> None:
        """Saves if it is time to."""
        if self.states.is_due(at_end):
            self.states.save(self.training, pack(model, optimizer, generator, losses))

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> list[float]:
        """Puts back what was saved, if anything; the losses so far."""
        tensors = self.states.load(self.training)
        return unpack(tensors, model, optimizer, generator) if tensors is not None else []


def pack(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator, losses: list[float]) -> dict[str, Tensor]:
    """All that the rest of a training is a function of."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    for i, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in slots.items() if isinstance(value, Tensor)}
    return tensors | {
        "generator": generator.get_state(), "default_generator": torch.default_generator.get_state(), "losses": torch.tensor(losses, dtype=torch.float64)
    }  # fmt: skip


def unpack(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> list[float]:
    """Puts a packed state back; returns the losses so far. Raises OSError where it is that of another model."""
    try:
        model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, i, slot = name.split(".")
                slots.setdefault(int(i), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        for weight, found in optimizer.state.items():  # laid out as the weight is: a fused step pairs them by their place in memory
            found.update({name: torch.empty_like(weight).copy_(v) for name, v in found.items() if v.shape == weight.shape and v.dim() > 0})
        generator.set_state(tensors["generator"])
        torch.default_generator.set_state(tensors["default_generator"])
        return [float(loss) for loss in tensors["losses"]]
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise OSError(f"a saved training does not fit its model ({error}): delete the folder `states` of the run, and it starts over") from error
