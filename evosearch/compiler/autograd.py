"""The autograd.Functions of an emitted module, as text.

`_Lean` saves its inputs and parameters and computes the gradient from them, a block at a time. `_Slope`, for a formula
of the inputs alone, computes the slope beside the value, where the two share their terms, and saves that in place of the
input: as little memory, and a backward of one multiplication. What it cannot give is the second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

from evosearch.compiler.layout import targets, wrapped
from evosearch.compiler.pieces import Moment, Pieces

_BLOCKS = '''def _blocks(x: Tensor) -> list[slice]:
    """Slices of about BLOCK elements, whose temporaries stay in cache; one where the backward is differentiated or fused."""
    rows = x.shape[0] if torch.is_grad_enabled() or torch.compiler.is_compiling() else BLOCK * x.shape[0] // max(1, x.numel())
    return [slice(i, i + max(1, rows)) for i in range(0, max(1, x.shape[0]), max(1, rows))]'''


_SLOPE = '''class _Slope(torch.autograd.Function):
    """Value and slope together, in blocks; saves the slope in place of the input. Differentiable once."""

    @staticmethod
    def forward(ctx, {arguments}) -> Tensor:  # type: ignore[no-untyped-def]
        out, {slopes} = {empty}
        for s in _blocks(x):
            {written} = _with_slopes({blocks})
        ctx.save_for_backward({slopes})
        return out

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
{refusal}
        return tuple(g * slope for slope in ctx.saved_tensors)


def _function(twice: bool, *inputs: Tensor) -> type[torch.autograd.Function]:
    """`_Slope` in float32 and bfloat16; in float64 second derivatives are usual, in float16 a slope may overflow."""
    dtype = inputs[0].dtype
    once = not twice and dtype in (torch.float32, torch.bfloat16)
    return _Slope if once and all(t.requires_grad and t.dtype == dtype for t in inputs) else _Lean'''


def autograd_functions(p: Pieces) -> list[str]:
    """The texts, in order: the blocks, `_Lean`, and `_Slope` where there is one."""
    return [_BLOCKS, _lean(p), *([_slope(p)] if p.slopes else [])]


def _slope(p: Pieces) -> str:
    slopes = [f"slope_{n}" for n in p.inputs]
    text = f'"{p.name} kept its slope, not its input: for a second derivative (create_graph) set `differentiable_twice = True` on the layer"'
    return _SLOPE.format(
        refusal="\n".join(wrapped("raise RuntimeError(", [text], ")", " " * 12)),
        arguments=", ".join(f"{n}: Tensor" for n in p.inputs),
        slopes=", ".join(slopes),
        empty=", ".join(f"torch.empty_like({n})" for n in ["x", *p.inputs]),
        written=", ".join(f"{n}[s]" for n in ["out", *slopes]),
        blocks=", ".join(f"_wide({n}[s])" for n in p.inputs),
    )


def means_of(p: Pieces, known: Sequence[str]) -> list[str]:
    """The batch moments of the forward as expressions of the plain form, from inputs and parameters by the names `known`."""
    names, found = [m.name for m in p.forward], []
    for i, m in enumerate(p.forward):
        averaged = known[0] if m.is_input else f"_{m.name}({', '.join([*known, *names[:i]])})"
        found.append(f"{m.name} = {averaged}.mean({p.whole}, keepdim=True)")
    return found


def _lean(p: Pieces) -> str:
    """Under create_graph the backward is differentiated: then the moments are computed again, as functions of the input."""
    data, weights, names = list(p.inputs), p.weights, [m.name for m in p.forward]
    given, blocked = [*data, *weights], [f"_wide({n}[s])" for n in data]
    outputs = "tuple[Tensor, ...]" if names else "Tensor"
    averaged = [f"_blocked_batch_mean({f}, [{', '.join(data)}], [{', '.join([*weights, *names[:i]])}])" for i, f in enumerate(map(_function_of, p.forward))]
    moments = [f"{name} = {text}" for name, text in zip(names, averaged, strict=True)]
    lines = ["class _Lean(torch.autograd.Function):", '    """Forward and backward in blocks; saves inputs and parameters only."""', ""]
    ignored = "  # type: ignore[no-untyped-def]"
    lines += ["    @staticmethod", *wrapped("def forward(", ["ctx", *(f"{n}: Tensor" for n in given)], f") -> {outputs}:", "    ", ignored)]
    lines += [f"        {line}" for line in moments]
    lines += ["        out = torch.empty_like(x)", "        for s in _blocks(x):", f"            out[s] = _value({', '.join([*blocked, *weights, *names])})"]
    lines += [f"        ctx.mark_non_differentiable({', '.join(names)})"] * bool(names)
    lines += [f"        ctx.save_for_backward({', '.join([*given, *names])})", f"        return {', '.join(['out', *names])}"]
    lines += ["", "    @staticmethod", f"    def backward(ctx, g, *unused):{ignored}"]
    lines.append(f"        {targets([*given, *names])} = ctx.saved_tensors")
    if names:
        lines += ["        if torch.is_grad_enabled():  # it is itself differentiated", *(f"            {line}" for line in moments)]
    return "\n".join([*lines, *_sweep(p, data, [*weights, *names], blocked)])


def _function_of(m: Moment) -> str:
    """The function that is averaged: of the input itself none was emitted."""
    return "lambda x, *_: x" if m.is_input else f"_{m.name}"


def _sweep(p: Pieces, data: list[str], known: list[str], blocked: list[str]) -> list[str]:
    """The backward block by block: gradients of the inputs written in their place, those of the parameters summed."""
    lines, weights = [], p.weights
    for b, is_upstream in p.backward.items():
        function = "lambda g, *_: g" if is_upstream else f"_{b}"
        lines.append(f"        {b} = _blocked_batch_mean({function}, [g, {', '.join(data)}], [{', '.join(known)}])")
        known = [*known, b]
    lines.append(f"        {', '.join(f'd{n}' for n in data)} = {', '.join(f'torch.empty_like({n})' for n in data)}")
    if weights:
        lines.append(f"        sums = [_wide(torch.zeros_like(v)) for v in ({', '.join(weights)}{',' * (len(weights) == 1)})]")
    written = [*(f"d{n}[s]" for n in data), "*parts"] if weights else [f"d{n}[s]" for n in data]
    call = f"_gradient({', '.join(['_wide(g[s])', *blocked, *known])})"
    lines += ["        for s in _blocks(x):", f"            {targets(written)} = {call}"]
    if weights:
        lines.append("            sums = [total + part.sum_to_size(total.shape) for total, part in zip(sums, parts)]")
    return [*lines, f"        return {', '.join([*(f'd{n}' for n in data), *(['*sums'] if weights else [])])}"]
