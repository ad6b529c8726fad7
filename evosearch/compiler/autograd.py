"""The autograd.Functions of an emitted module, as text.

`_Lean` saves its inputs and parameters and computes the gradient from them, a block at a time. `_Slope`, for a formula
of the inputs alone, computes the slope beside the value, where the two share their terms, and saves that in place of the
input: as little memory, and a backward of one multiplication. What it cannot give is the second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence

from evosearch.compiler.pieces import Pieces

_BLOCKS = '''def _blocks(x: Tensor) -> list[slice]:
    """Slices of the first dimension that hold about BLOCK elements, so that a block's temporaries stay in cache."""
    if x.numel() <= BLOCK:
        return [slice(None)]
    rows = max(1, BLOCK * x.shape[0] // x.numel())
    return [slice(i, i + rows) for i in range(0, x.shape[0], rows)]'''


_SLOPE = '''class _Slope(torch.autograd.Function):
    """Value and slope together, in blocks; saves the slope in place of the input. Differentiable once."""

    @staticmethod
    def forward(ctx, {arguments}) -> Tensor:  # type: ignore[no-untyped-def, override]
        out, {slopes} = {empty}
        for s in _blocks(x):
            {written} = _with_slopes({blocks})
        ctx.save_for_backward({slopes})
        return out

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def, override]
        if torch.is_grad_enabled():
            raise RuntimeError("{name} kept its slope, not its input: for a second derivative (create_graph) set `differentiable_twice = True` on the layer")
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
    return _SLOPE.format(
        name=p.name,
        arguments=", ".join(f"{n}: Tensor" for n in p.inputs),
        slopes=", ".join(slopes),
        empty=", ".join(f"torch.empty_like({n})" for n in ["x", *p.inputs]),
        written=", ".join(f"{n}[s]" for n in ["out", *slopes]),
        blocks=", ".join(f"_wide({n}[s])" for n in p.inputs),
    )


def moments_of(p: Pieces, known: Sequence[str]) -> list[str]:
    """Statements of an inner block that compute the batch moments of the forward out of place, from inputs and parameters by the names `known`."""
    names = [m.name for m in p.forward]
    return [f"            {name} = _batch_mean(_{name}({', '.join([*known, *names[:i]])}))" for i, name in enumerate(names)]


def _lean(p: Pieces) -> str:
    data, weights, forward, backward = list(p.inputs), p.weights, p.forward, p.backward
    given = [*data, *weights]
    blocked = [f"_wide({n}[s])" for n in data]
    names = [m.name for m in forward]
    lines = ["class _Lean(torch.autograd.Function):", '    """Forward and backward in blocks; saves inputs and parameters only."""', ""]
    outputs = "Tensor" if not forward else "tuple[Tensor, ...]"
    arguments = ", ".join(f"{n}: Tensor" for n in given)
    lines += ["    @staticmethod", f"    def forward(ctx, {arguments}) -> {outputs}:  # type: ignore[no-untyped-def, override]"]
    known = list(weights)
    for m in forward:
        lines.append(f"        {m.name} = _blocked_batch_mean(_{m.name}, [{', '.join(data)}], [{', '.join(known)}])")
        known.append(m.name)
    lines += ["        out = torch.empty_like(x)", "        for s in _blocks(x):", f"            out[s] = _value({', '.join([*blocked, *known])})"]
    if forward:
        lines.append(f"        ctx.mark_non_differentiable({', '.join(names)})")
    lines.append(f"        ctx.save_for_backward({', '.join([*given, *names])})")
    lines.append(f"        return {', '.join(['out', *names])}")
    lines += ["", "    @staticmethod", "    def backward(ctx, g, *unused):  # type: ignore[no-untyped-def, override]"]
    lines.append(f"        {', '.join([*given, *names])}{',' if len(given) + len(forward) == 1 else ''} = ctx.saved_tensors")
    lines += _differentiable_backward(p)
    known = [*weights, *names]
    for b in backward:
        lines.append(f"        {b} = _blocked_batch_mean(_{b}, [g, {', '.join(data)}], [{', '.join(known)}])")
        known.append(b)
    lines += [f"        d{n} = torch.empty_like({n})" if n in data else f"        d{n} = _wide(torch.zeros_like({n}))" for n in given]
    lines += ["        for s in _blocks(x):", f"            parts = _gradient({', '.join(['_wide(g[s])', *blocked, *known])})"]
    for i, n in enumerate(given):
        lines.append(f"            d{n}[s] = parts[{i}]" if n in data else f"            d{n} += parts[{i}].sum_to_size({n}.shape)")
    lines.append(f"        return {', '.join(f'd{n}' for n in given)}")
    return "\n".join(lines)


def _differentiable_backward(p: Pieces) -> list[str]:
    """Under create_graph the backward is itself differentiated: one block, the moments recomputed from the input."""
    data, weights = list(p.inputs), p.weights
    lines = ["        if torch.is_grad_enabled():  # differentiated again: out of place, nothing taken as constant"]
    lines += [f"            {n} = _wide({n})" for n in ("g", *data)]
    lines += moments_of(p, [*data, *weights])
    known = ["g", *data, *weights, *(m.name for m in p.forward)]
    for b in p.backward:
        lines.append(f"            {b} = _batch_mean(_{b}({', '.join(known)}))")
        known.append(b)
    lines.append(f"            parts = _gradient({', '.join(known)})")
    sums = [f"parts[{i}]" if n in data else f"parts[{i}].sum_to_size({n}.shape)" for i, n in enumerate([*data, *weights])]
    lines.append(f"            return {', '.join(sums)}")
    return lines
