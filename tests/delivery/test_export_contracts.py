"""Exported layers in Lightning, ONNX Runtime and JAX, where they are installed: scripts/test_contracts.sh."""

from __future__ import annotations

import copy
import importlib
import sys

import numpy as np
import pytest
import torch
from torch import nn

from evosearch.delivery.export import export
from evosearch.language.formula import parse
from evosearch.language.graph import with_affine
from evosearch.language.library import known
from evosearch.source import import_file

pytestmark = [pytest.mark.contracts, pytest.mark.filterwarnings("default")]
FORMULAS = {
    "silu": known("silu").graph, "evonorm_s0": with_affine(known("evonorm_s0").graph), "bn_relu": known("bn_relu").graph, "gate": parse("x * sigmoid(y)"),
}  # fmt: skip


def library(*names):
    """The first of the libraries that imports, or a skip with the reasons."""
    reasons = []
    for name in names:
        try:
            return importlib.import_module(name)
        except Exception as error:
            reasons.append(f"{name} does not import: {type(error).__name__}: {str(error)[:120]}")
    pytest.skip("; ".join(reasons))


@pytest.fixture(scope="module", params=FORMULAS)
def exported(request, tmp_path_factory):
    """Name, folder and an evaluated layer that is not at its start."""
    folder = tmp_path_factory.mktemp("contracts") / f"{request.param}_layer"
    name, graph = folder.name, FORMULAS[request.param]
    export(graph, folder, name, features=8 if request.param not in ("silu", "gate") else None, formats=formats())
    module = import_file(folder / f"{name}.py", f"contract_{name}")
    kind = next(k for k in vars(module).values() if isinstance(k, type) and issubclass(k, nn.Module) and k.__module__ == module.__name__)
    return name, folder, kind(8), 2 if request.param == "gate" else 1


def formats():
    found = ["py"]
    for name, needs in (("onnx", ("onnx", "onnxscript", "onnxruntime")), ("jax", ("jax",))):
        try:
            [importlib.import_module(need) for need in needs]
        except Exception:
            continue
        found.append(name)
    return found


def inputs(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 8, 6, 6, generator=generator) for _ in range(count)]


class Net(nn.Module):
    def __init__(self, layer, count):
        super().__init__()
        self.first, self.layer, self.last, self.count = nn.Conv2d(8, 8 * count, 3, padding=1), layer, nn.Linear(8, 2), count

    def forward(self, x):
        return self.last(self.layer(*self.first(x).chunk(self.count, 1)).mean((2, 3)))


def test_what_a_trainer_does_to_a_module(exported):
    """What Lightning and others call: train and eval, deepcopy, state by name, dtype, apply, gradients of every parameter."""
    _, _, layer, count = exported
    net = Net(copy.deepcopy(layer), count)
    before = {name: p.clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for seed in range(3):
        optimizer.zero_grad()
        net.train()(inputs(1, seed)[0]).square().mean().backward()
        optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in net.named_parameters())
    other = Net(copy.deepcopy(layer), count)
    other.load_state_dict(net.state_dict())
    x = inputs(1, 9)[0]
    assert torch.equal(other.eval()(x), net.eval()(x))
    assert copy.deepcopy(net).to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    seen = []
    net.apply(lambda module: seen.append(type(module).__name__))
    assert type(layer).__name__ in seen


def test_lightning_trains_it(exported, tmp_path):
    lightning = library("lightning", "pytorch_lightning")
    _, _, layer, count = exported

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net(copy.deepcopy(layer), count)

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data = torch.utils.data.TensorDataset(torch.randn(16, 8, 6, 6), torch.randint(0, 2, (16,)))
    task = Task()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    lightning.Trainer(max_steps=2, default_root_dir=tmp_path, **options).fit(task, torch.utils.data.DataLoader(data, batch_size=8))
    assert all(not torch.equal(before[name], p) for name, p in task.named_parameters())


def test_onnx_runtime_runs_the_file(exported):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        library(name)
    ort = library("onnxruntime")
    name, folder, layer, count = exported
    file = folder / f"{name}.onnx"
    assert file.exists(), "the format could be made, and is not there"
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    given = inputs(count)
    (found,) = session.run(None, dict(zip([i.name for i in session.get_inputs()], (t.numpy() for t in given), strict=True)))
    np.testing.assert_allclose(found, layer.eval()(*given).detach().numpy(), rtol=1e-4, atol=1e-5)
    layer.train()


def test_jax_computes_and_differentiates_the_file(exported):
    jax = library("jax")
    name, folder, layer, count = exported
    module = import_file(folder / f"{name}_jax.py", f"contract_{name}_jax")
    function = getattr(module, name)
    given = inputs(count)
    kept = [module.start(8)] if hasattr(module, "start") else []
    switch = {"training": True} if hasattr(module, "track") else {}

    def loss(*arguments):
        return (function(*kept, *arguments, **switch) ** 2).sum()

    arrays = [t.numpy() for t in given]
    slopes = jax.jit(jax.grad(loss, argnums=tuple(range(count))))(*arrays)
    leaves = [t.clone().requires_grad_() for t in given]
    fresh = type(layer)(8)
    fresh(*leaves).square().sum().backward()
    for slope, leaf in zip(slopes, leaves, strict=True):
        np.testing.assert_allclose(np.asarray(slope), leaf.grad.numpy(), rtol=2e-3, atol=1e-4)
    sys.modules.pop(module.__name__, None)
