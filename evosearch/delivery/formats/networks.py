"""A trained network in TorchScript, torch.export and ONNX beside its model.py, read again in a fresh process and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from evosearch.delivery.formats import FORMATS, make_each, onnx, torchscript
from evosearch.delivery.formats.cases import Case, results_of
from evosearch.delivery.formats.format import Format, traced
from evosearch.delivery.formats.verification import SECONDS, Verified, judge, program, run_fresh, slope_operators
from evosearch.delivery.place import ExportError
from evosearch.language.graph import Graph, walk

NAMES = ("ts", "pt2", "onnx")
STEM = "model"
BATCH = 8
ROUNDING = (1e-4, 1e-5)  # sums of thousands, in another order


def chosen(names: Sequence[str] | None) -> list[Format]:
    """The formats of those names, all of them without. Raises ExportError for one that is none of a network's."""
    for name in names or ():
        if name not in (*NAMES, "py"):
            raise ExportError(f"--formats of a network takes {','.join(NAMES)}, beside model.py; received `{name[:40]}`")
    return [FORMATS[name] for name in NAMES if names is None or name in names]


def make(network: nn.Module, inputs: Tensor, folder: Path, wanted: Sequence[Format], by_name: bool) -> tuple[dict[str, Format], dict[str, str]]:
    """Writes each format that can be made, of the network in evaluation mode, for any number of inputs like these; the others with reasons.

    Raises ExportError for one that was asked for `by_name`.
    """
    programs: list[torch.export.ExportedProgram] = []
    return make_each(wanted, lambda one: _make(one.name, network, inputs, folder / one.file(STEM), programs), by_name)


def _make(name: str, network: nn.Module, inputs: Tensor, file: Path, programs: list[torch.export.ExportedProgram]) -> None:
    if name == "ts":
        torchscript.check_able()
        torchscript.write(network.eval(), file)
        return
    if name == "onnx":
        onnx.check_installed()
    if not programs:
        programs.append(traced(network.eval(), (inputs[:4],), ({0: torch.export.Dim.DYNAMIC},)))
    if name == "pt2":
        torch.export.save(programs[0], file)
    else:
        onnx.write(programs[0], file)


def cases(inputs: Tensor) -> list[Case]:
    """Some validation inputs as they are, one of them, none of them, and images in other layouts."""
    inputs = inputs[:BATCH]
    found = [Case("ordinary", [inputs]), Case("batch of one", [inputs[:1]]), Case("empty batch", [inputs[:0]])]
    if inputs.dim() == 4:
        found.append(Case("channels last", [inputs.to(memory_format=torch.channels_last)]))
        found.append(Case("not contiguous", [inputs.transpose(2, 3).contiguous().transpose(2, 3)]))
    if inputs.is_floating_point():
        half = torch.arange(inputs.shape[-1]) % 2  # all zeros would be divided by sqrt(eps) in every norm: nothing but rounding
        found += [Case("half zeros", [inputs * half]), Case("large", [inputs * 100])]
    return found


def verify(fresh: Callable[[], nn.Module], inputs: Tensor, folder: Path, made: Mapping[str, Format], graphs: Sequence[Graph]) -> dict[str, Verified]:
    """Compares each file with the network that was trained, in one fresh process. Raises ExportError for one that does something else."""
    if not made:
        return {}
    state = {name: t.detach().clone() for name, t in fresh().state_dict().items()}
    wanted = results_of(fresh, state, cases(inputs), ROUNDING, draws=0)
    refused = wanted.pop("refused")
    operators = frozenset(node.op for graph in graphs for node in walk(graph)).union(*(slope_operators(graph) for graph in graphs))
    with tempfile.TemporaryDirectory() as work:
        torch.save(wanted, Path(work) / "cases.pt")
        types = ["float32", "int64"]
        specs = {name: {"file": one.file(STEM), "offers": sorted(one.offers), "types": types} for name, one in made.items()}
        row = {"folder": str(folder), "cases": str(Path(work) / "cases.pt"), "name": STEM, "kind": "Network", "features": 0, "formats": specs}
        try:
            found = judge(run_fresh(program(list(made.values())), {"layers": [row]}, SECONDS)[0], operators, refused)
        except RuntimeError as error:
            raise ExportError(f"the exported files do not reproduce the network: {error}; nothing was written") from error
    for name, one in found.items():
        if one.failures:
            raise ExportError(f"{made[name].file(STEM)} does not reproduce the network: {one.failures[0]}; nothing was written")
    return found
