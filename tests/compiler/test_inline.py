"""Several layers in one module compute what each computes alone."""

from __future__ import annotations

import ast

import pytest
import torch

from evosearch.compiler.inline import imports, inlined
from evosearch.compiler.module import compile as compile_layer
from evosearch.language.formula import parse
from evosearch.source import import_file

FORMULAS = {
    "Act0": "x * sigmoid(x)", "Act1": "relu(x)", "Act2": "x * sigmoid(v * x) / std(x, group) where v: channel = 1",
    "Act3": "tanh(x) * a where a: layer = 0.5", "Act4": "(x - mean(x, batch)) / std(x, batch)", "Act5": "sin(x) * x ~ x", "Act6": "x / rms(x, layer)",
}  # fmt: skip


def module_of(formulas, folder):
    body = inlined({kind: parse(text) for kind, text in formulas.items()})
    file = folder / f"{'_'.join(formulas)}_inlined.py"
    file.write_text(imports(body) + "\n\n" + body + "\n")
    return import_file(file, file.stem)


@pytest.mark.parametrize("kinds", [list(FORMULAS), list(FORMULAS)[::-1], ["Act0"], ["Act2", "Act4"]])
def test_each_layer_computes_what_it_computes_alone(kinds, tmp_path):
    module = module_of({kind: FORMULAS[kind] for kind in kinds}, tmp_path)
    x = torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    for kind in kinds:
        outputs = []
        for layer in (getattr(module, kind)(8), compile_layer(FORMULAS[kind], 8)):
            leaf = x.clone().requires_grad_()
            layer(leaf).square().sum().backward()
            outputs.append([leaf.grad, layer(x), layer.eval()(x), *(p.grad for p in layer.parameters())])
        assert all(map(torch.equal, *outputs)), kind


def test_what_is_common_stands_there_once_and_nothing_is_defined_twice():
    text = inlined({kind: parse(formula) for kind, formula in FORMULAS.items()})
    names = [node.targets[0].id if isinstance(node, ast.Assign) else node.name for node in ast.parse(text).body]
    assert len(names) == len(set(names))
    assert {"_blocks", "_is_transformed", "_wide", "BLOCK", "_value_act0", "_value_act1", "_LeanAct0"} <= set(names)
    assert "TRACKED_VARIANCE" not in text
