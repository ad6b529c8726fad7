"""A found network as files: model.py and weights.safetensors, which need nothing but torch, TorchScript, torch.export and ONNX beside them;
trained once and checked in a fresh process.

model.py holds the layers by the one emitter, the network as a straight line of what was chosen, and a reader of the weights.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from evosearch.compiler.inline import imports, inlined
from evosearch.compiler.module import compile_graph, load
from evosearch.delivery.formats import networks
from evosearch.delivery.formats.format import Format
from evosearch.delivery.formats.verification import report
from evosearch.delivery.place import TEMPORARY, ExportError, check_place, standing, unplaced
from evosearch.delivery.straightline import straight
from evosearch.delivery.summary import read
from evosearch.judging.architectures import Layers
from evosearch.judging.architectures.slots import MakeLayer
from evosearch.judging.objectives import TASKS, parse_pair, unit
from evosearch.judging.tasks import task
from evosearch.judging.tasks.files import install
from evosearch.judging.train import train
from evosearch.language.candidate import Candidate
from evosearch.language.graph import Graph
from evosearch.run import files_of
from evosearch.sections import Config

FILES = ("model.py", "weights.safetensors", "network.json", "verify.json")
OTHERS = tuple(one.file(networks.STEM) for one in networks.chosen(None))  # formats that may be there too
CLASS = "Network"
BATCH = 64


@dataclass(frozen=True)
class Training:
    """How the network is trained before it leaves: as in the search, once."""

    pair: str
    seed: int
    rate: float  # over the task's own
    steps: int
    optimizer: str = "adam"
    device: str = "cpu"


@dataclass(frozen=True)
class Exported:
    """The files, the scores of the training that made the weights, in the pair's unit, and the formats that are not there, with reasons."""

    files: tuple[Path, ...]
    validation: float
    test: float
    absent: dict[str, str]


def training_of(directory: Path, config: Config, text: str, pair: str | None = None) -> Training:
    """How the run trained a network at its best: on the pair, by default the first of `full`, at the rate that was the best there.

    Raises ExportError for a pair that is not of `full`, and for a network that was not trained there.
    """
    stage = config.judging.full
    chosen = pair or stage.pairs[0]
    if chosen not in stage.pairs:
        raise ExportError(f"--pair is one of {', '.join(stage.pairs)}, on which the run trained in full; received `{chosen[:60]}`")
    install(files_of(config))
    rates = [row["rates"][f"full:{chosen}"] for row in read(directory, config).searched if row["candidate"] == text and f"full:{chosen}" in row["rates"]]
    if not rates:
        raise ExportError(f"`{text[:120]}` was not fully trained on {chosen}, so its learning rate is not known; export one of the table")
    return Training(chosen, config.seed, rates[0], stage.steps, stage.optimizer, config.execution.device)


def export_network(
    candidate: Candidate, directory: Path, training: Training, *, verdict: str | None = None, overwrite: bool = False,
    formats: Sequence[str] | None = None,
) -> Exported:  # fmt: skip
    """Trains the network and writes it into `directory`, in every format that can be made of it or in model.py and those named.

    The files are made in a temporary folder, and loaded again in a fresh process that has torch alone; only where its answers are
    those of the network that was trained do they take their place. Raises ExportError, with nothing written, otherwise, and for a
    folder that holds other things or, unless `overwrite`, another network.
    """
    wanted = networks.chosen(formats)
    check_place(directory)
    _check_folder(directory, candidate, overwrite)
    classes = {graph: f"Act{number}" for number, graph in enumerate(dict.fromkeys(candidate.sites))}
    made: dict[nn.Module, str] = {}
    makers = {graph: _naming(graph, kind, made) for graph, kind in classes.items()}
    layers = Layers([makers[graph] for graph in candidate.sites], candidate.choices)
    trained = train(training.pair, layers, training.seed, training.rate, training.steps, training.device, optimizer=training.optimizer)
    assert trained.model is not None
    test, inputs = trained.test(), _inputs(training.pair)
    model = trained.model.cpu()
    state, source = _source(model, candidate, training, made, {kind: graph for graph, kind in classes.items()}, inputs, trained.validation)
    record = {
        "candidate": str(candidate), "canonical_id": candidate.canonical_id, "training": vars(training), "verdict": verdict,
        "scores": {"validation": trained.validation, "test": test, "unit": unit(training.pair)},
        "parameters": sum(p.numel() for p in model.parameters()), "input": list(inputs.shape[1:]), "torch": torch.__version__,
    }  # fmt: skip
    try:
        files, absent = _write(model, directory, source, state, record, inputs, candidate, wanted, formats is not None)
    except OSError as error:  # it could be written a moment ago
        raise unplaced(directory, error) from error
    return Exported(files, trained.validation, test, absent)


def _naming(graph: Graph, kind: str, made: dict[nn.Module, str]) -> MakeLayer:
    """Makes the layer, and notes how the class of the exported module makes it."""

    def make(num_features: int | None = None) -> nn.Module:
        layer = compile_graph(graph, num_features)
        made[layer] = f"{kind}({num_features or ''})"
        return layer

    return make


def _inputs(pair: str) -> Tensor:
    named = parse_pair(pair)
    return task(named.task).load(named.variant).validation[0][:BATCH]


def _source(
    model: nn.Module, candidate: Candidate, training: Training, made: Mapping[nn.Module, str], graphs: Mapping[str, Graph], inputs: Tensor, score: float
) -> tuple[dict[str, Tensor], str]:
    """The weights by their names in the exported class, and the text of model.py."""
    written = straight(model, CLASS, made, f"{candidate}".replace("\\", ""))
    tensors = model.state_dict()
    state = {name: tensors[path] for path, name in written.state.items() if path in tensors}
    name_of_task = parse_pair(training.pair).task
    measure = TASKS[name_of_task]
    shape = ", ".join(map(str, ("N", *inputs.shape[1:])))
    doc = [
        f"{candidate}", "",
        f"Found by evosearch, trained on {training.pair} in {training.steps} steps to {measure.name} {score:.4g} {measure.unit} (validation).",
        "Needs torch only: `load()` gives the trained network, for inputs",
        f"`({shape})` as the task {name_of_task} prepares them, `Network()` a fresh one.",
    ]  # fmt: skip
    body = "\n\n\n".join([inlined(graphs), written.text, _READER])
    parts = ['"""' + "\n".join(doc) + '\n"""', "from __future__ import annotations", imports(body, "import json", "from pathlib import Path"), body]
    return state, "\n\n".join(parts) + "\n"


def _write(
    model: nn.Module, directory: Path, source: str, state: Mapping[str, Tensor], record: Mapping[str, Any], inputs: Tensor,
    candidate: Candidate, wanted: Sequence[Format], by_name: bool,
) -> tuple[tuple[Path, ...], dict[str, str]]:  # fmt: skip
    """Makes the files in a temporary folder beside their place, verifies them there, and moves them."""
    with tempfile.TemporaryDirectory(dir=standing(directory), prefix=TEMPORARY) as temporary:
        workshop = Path(temporary)
        (workshop / "model.py").write_text(source)
        (workshop / "weights.safetensors").write_bytes(save({name: t.detach().contiguous().clone() for name, t in state.items()}))
        (workshop / "network.json").write_text(json.dumps(record, indent=1) + "\n")
        _verify(model, workshop, inputs)

        def fresh() -> nn.Module:
            network: nn.Module = getattr(load(source), CLASS)()
            network.load_state_dict(state)
            return network

        made, absent = networks.make(fresh(), inputs, workshop, wanted, by_name)
        verified = networks.verify(fresh, inputs, workshop, made, candidate.sites)
        (workshop / "verify.json").write_text(json.dumps(report(made, absent, verified), indent=1) + "\n")
        directory.mkdir(parents=True, exist_ok=True)
        files = [*FILES, *(one.file(networks.STEM) for one in made.values())]
        for file in files:
            (workshop / file).replace(directory / file)
        for stale in set(OTHERS).difference(files):  # of an earlier export in more formats
            (directory / stale).unlink(missing_ok=True)
    return tuple(directory / file for file in files), absent


def _verify(model: nn.Module, directory: Path, inputs: Tensor) -> None:
    """Loads the files in a fresh process without evosearch and safetensors, and compares answers, and slopes by the training form."""
    expected = {"answers": model.eval()(inputs).detach(), **_step(copy.deepcopy(model), inputs)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "expected.pt"
        torch.save({"inputs": inputs, "expected": expected}, file)
        arguments = [sys.executable, "-I", "-c", _CHECK, str(directory), str(file)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ExportError(f"the exported files do not reproduce the network: {''.join(last)[:300]}; nothing was written")


def _step(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """The answers in training mode, and the size of all slopes of their sum of squares."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # for dropout
        out = model.train()(inputs)
    out.square().sum().backward()
    slopes = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
    return {"answers in training": out.detach(), "slopes": torch.stack(slopes).sum().sqrt()}


def _check_folder(directory: Path, candidate: Candidate, overwrite: bool) -> None:
    """Raises ExportError for a folder that holds other things, or another network without `overwrite`."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ExportError(f"{directory} is a file; pass another --to")
    present = {path.name for path in directory.iterdir() if not path.name.startswith(TEMPORARY)}
    others = sorted(present - {*FILES, *OTHERS, "__pycache__"})
    if others:
        raise ExportError(f"{directory} holds other things ({', '.join(others[:3])}); pass another --to")
    if not present & set(FILES) or overwrite:
        return
    try:
        before = json.loads((directory / "network.json").read_text())
        text, known = str(before["candidate"]), before["canonical_id"] == candidate.canonical_id
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(f"{directory} holds {sorted(present)[0]} but no readable network.json; pass another --to, or --overwrite") from None
    if not known:
        raise ExportError(f"{directory} holds another network, `{text[:120]}`; pass another --to, or --overwrite")


_READER = '''TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "BOOL": torch.bool}


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file: 8 bytes with the length of a header in JSON, the header, and the values as they lie in memory."""
    data = bytearray(Path(file).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            values = torch.frombuffer(data[first:last], dtype=TYPES[entry["dtype"]]) if last > first else torch.empty(0, dtype=TYPES[entry["dtype"]])
            found[name] = values.reshape(entry["shape"])
    return found


def load(weights: str | Path = Path(__file__).with_name("weights.safetensors")) -> Network:
    """The trained network, in evaluation mode."""
    network = Network()
    network.load_state_dict(read_weights(weights))
    return network.eval()'''

_CHECK = """
import importlib.util, sys
from pathlib import Path
import torch
folder, file = Path(sys.argv[1]), sys.argv[2]
saved = torch.load(file, weights_only=True)
spec = importlib.util.spec_from_file_location("model", folder / "model.py")
module = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode = True
spec.loader.exec_module(module)
network = module.load()
found = {"answers": network(saved["inputs"]).detach()}
torch.manual_seed(0)
out = network.train()(saved["inputs"])
out.square().sum().backward()
slopes = [p.grad.square().sum() for p in network.parameters() if p.grad is not None]
found |= {"answers in training": out.detach(), "slopes": torch.stack(slopes).sum().sqrt()}
assert not {"evosearch", "safetensors"} & set(sys.modules), "more than torch was imported"
for what, value in found.items():
    expected = saved["expected"][what]
    if not torch.allclose(value, expected, rtol=1e-4, atol=1e-5):
        raise SystemExit(f"model.py differs in {what} by {(value - expected).abs().max().item():.3g}")
"""
