"""The fixed parts of an emitted module: helpers and the nn.Module, as text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from evosearch.compiler.autograd import autograd_functions, means_of
from evosearch.compiler.layout import assigned, wrapped
from evosearch.compiler.pieces import Moment, Pieces

HELPERS = {
    "_group_mean": '''def _group_mean(x: Tensor, groups: int) -> Tensor:
    """Mean over the channels of a group and all places, `(N, C, *S)` -> `(N, C, 1, ...)`."""
    return _ungroup(_group(x, groups).mean(2), x)''',
    "_group_sum": '''def _group_sum(x: Tensor, groups: int) -> Tensor:
    """Sum over the channels of a group and all places, `(N, C, *S)` -> `(N, C, 1, ...)`."""
    return _ungroup(_group(x, groups).sum(2), x)''',
    "_group_max": '''def _group_max(x: Tensor, groups: int) -> Tensor:
    """Maximum over the channels of a group and all places, `(N, C, *S)` -> `(N, C, 1, ...)`."""
    return _ungroup(_group(x, groups).amax(2), x)''',
}

_GROUP = '''def _group(x: Tensor, groups: int) -> Tensor:
    """`(N, C, *S)` as `(N, groups, -1)`; the number of groups is lowered until it divides the channels."""
    groups = min(groups, x.shape[1])
    while x.shape[1] % groups != 0:
        groups -= 1
    places = x.shape[2] if x.dim() == 3 else x.shape[2] * x.shape[3]
    return x.reshape(x.shape[0], groups, x.shape[1] // groups * places)


def _ungroup(value: Tensor, x: Tensor) -> Tensor:
    """`(N, groups)` as one value a channel, `(N, C, 1, ...)`."""
    n, groups = value.shape
    value = value.unsqueeze(2).expand(n, groups, x.shape[1] // groups).reshape(n, x.shape[1], 1)
    return value if x.dim() == 3 else value.unsqueeze(3)'''

_WIDE = '''def _wide(x: Tensor) -> Tensor:
    """Statistics are computed in float32 under half precision, and in the input's own type otherwise."""
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x'''

_TRANSFORMED = '''def {name}() -> bool:
    """Whether tracing, {who}, torch.func or forward-mode differentiation looks at the code: they see the plain form."""
    traced = torch.jit.is_tracing() or {compiling}  # type: ignore[attr-defined, no-untyped-call]
    return traced or torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0'''
# of a group's statistics our backward takes fewer passes than the one that is derived from the plain form (scripts/bench_export.py)
_COMPILED_PLAIN = _TRANSFORMED.format(name="_is_transformed", who="torch.compile", compiling="torch.compiler.is_compiling()")
_ONLY_EXPORTED = "(torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling())"
_COMPILED_LEAN = _TRANSFORMED.format(name="_is_exported", who="torch.export", compiling=_ONLY_EXPORTED)

_WHOLE = '''def _blocked_batch_mean(function: Callable[..., Tensor], blocked: list[Tensor], shared: list[Tensor]) -> Tensor:
    """Mean of `function` over batch and places, `(N, C, *S)` -> `(1, C, 1, ...)`, a block at a time."""
    total = torch.zeros((), device=blocked[0].device)
    for s in _blocks(blocked[0]):
        total = total + function(*[_wide(t[s]) for t in blocked], *shared).sum({dims}, keepdim=True)
    return total * (blocked[0].shape[1] / blocked[0].numel()) if blocked[0].numel() > 0 else total / 0'''

_FOLD = '''def _fold(x: Tensor, channel_dim: int, features: int) -> Tensor:
    """The input as `(N, C, S)`, whatever its rank; `features` channels, or any number if 0."""
    if x.dim() < 2:
        raise ValueError("{name} needs an input of at least 2 dimensions (N, C, *S)")
    x = x.movedim(channel_dim, 1)
    if features > 0 and x.shape[1] != features:
        raise ValueError(f"{name} was made for num_features={{features}}; the input has {{x.shape[1]}} channels at channel_dim={{channel_dim}}")
    return x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)'''

_FOLD_ROW = '''def _fold(x: Tensor, channel_dim: int, features: int) -> Tensor:
    """The input as `(N, C, S, R)` with R its last axis; `features` channels, or any number if 0."""
    if x.dim() < 3 or channel_dim == -1 or channel_dim == x.dim() - 1:
        raise ValueError("{name} has statistics over `row`, the last axis, beside others; where that is the channel axis, write `channel`")
    x = x.movedim(channel_dim, 1)
    if features > 0 and x.shape[1] != features:
        raise ValueError(f"{name} was made for num_features={{features}}; the input has {{x.shape[1]}} channels at channel_dim={{channel_dim}}")
    return x.flatten(2, -2) if x.dim() > 3 else x.unsqueeze(2)'''

def fill(p: Pieces) -> str:
    """The whole module. Identifiers are ours, numbers are the repr of finite floats; text from outside never enters."""
    parts = [_WIDE]
    if p.helpers:
        parts += [_GROUP, *p.helpers]
    if p.folded:
        parts.append((_FOLD_ROW if p.layout == "folded_row" else _FOLD).format(name=p.name))
    if p.forward:
        parts.append(_WHOLE.format(dims=p.whole))
    parts += [f for f in p.functions if p.lean or not f.startswith(("def _gradient", "def _b", "def _with_slopes"))]
    if p.lean:
        parts += [_COMPILED_LEAN if p.lean_when_compiled else _COMPILED_PLAIN, *autograd_functions(p)]
    body = "\n\n\n".join([*parts, _module(p)])
    return f"{_head(p, 'F.' in body)}\n\n\n{body}\n"


def _head(p: Pieces, functional: bool) -> str:
    imports = "from collections.abc import Callable\n\n" if p.forward else ""
    return f'''"""A layer that evosearch generated; needs torch only."""

{imports}import torch
{"import torch.nn.functional as F" + chr(10) if functional else ""}from torch import Tensor, nn

{assigned("FORMULA", json.dumps(str(p.graph)))}
TRACKED_VARIANCE = {'"unbiased"' if p.unbiased else '"biased"'}
BLOCK = 131072  # elements; the temporaries of a block fit the second-level cache'''


def _module(p: Pieces) -> str:
    signature = ", ".join(f"{n}: Tensor" for n in p.inputs)
    lines = [f"class {p.name}(nn.Module):", f'    """{p.graph}, for inputs of shape `(N, C, *S)` with the channels at `channel_dim`."""', ""]
    if p.slopes:
        lines += ["    differentiable_twice = False  # in float32: set it to keep the input in place of the slope, for create_graph", ""]
    lines += _constructor(p)
    lines += ["", f"    def forward(self, {signature}) -> Tensor:", "        if not x.is_floating_point():"]
    lines.append(f'            raise TypeError("{p.name} needs a floating-point input: call .float() on it")')
    if p.lean:
        looked = "_is_exported" if p.lean_when_compiled else "_is_transformed"
        wanted = f"torch.is_grad_enabled() and not {looked}()" + (" and self.training" if p.forward else "")
        lines += ["        if not torch.jit.is_scripting():  # type: ignore[attr-defined]", f"            if {wanted}:"]
        lines.append(f"                return self._lean({', '.join(p.inputs)})")
    lines += [f"        return self._plain({', '.join(p.inputs)})", "", f"    def _plain(self, {signature}) -> Tensor:"]
    lines += _plain_body(p)
    if p.forward:
        lines += _track(p.forward, p.unbiased)
    if p.lean:
        lines += ["", "    @torch.jit.unused", f"    def _lean(self, {signature}) -> Tensor:"]
        lines += _lean_body(p)
    lines += ["", "    def extra_repr(self) -> str:", "        return FORMULA"]
    return "\n".join(lines)


def _constructor(p: Pieces) -> list[str]:
    channels = any(q.kind == "channel" for q in p.params) or bool(p.forward)
    # `inplace` is what the places pass that make an activation; the input is never written over, the backward needs it
    arguments = ["self", "num_features: int | None = None", "channel_dim: int = 1", "momentum: float = 0.1", "inplace: bool = False"]
    if p.params or p.forward:
        arguments += ["device: torch.device | str | None = None", "dtype: torch.dtype | None = None"]
    lines = [*wrapped("def __init__(", arguments, ") -> None:", "    "), "        super().__init__()"]
    if channels:
        lines += ["        if num_features is None or num_features < 1:"]
        lines.append(f'            raise ValueError("{p.name} keeps a value per channel: pass num_features, the number of channels")')
    kept = ", self.num_features = channel_dim, momentum, " + ("num_features" if channels else "0") if p.folded else " = channel_dim, momentum"
    lines.append(f"        self.channel_dim, self.momentum{kept}")
    for q in p.params:
        shape = "(num_features,)" if q.kind == "channel" else "()"
        lines.append(f"        self.{q.name} = nn.Parameter(torch.full({shape}, {q.init!r}, device=device, dtype=dtype))")
    for m in p.forward:
        lines.append(f'        self.register_buffer("{m.buffer}", torch.full((num_features,), {m.start!r}, device=device, dtype=dtype))')
    return lines


def _per_channel(p: Pieces, text: str) -> str:
    """A vector of one value a channel in the shape that the folded functions broadcast."""
    return f"{text}.view(1, -1, 1, 1)" if p.layout == "folded_row" else f"{text}.view(1, -1, 1)"


def _weights(p: Pieces) -> list[str]:
    return [_per_channel(p, f"self.{q.name}") if q.kind == "channel" else f"self.{q.name}" for q in p.params]


def _plain_body(p: Pieces) -> list[str]:
    inputs, forward = p.inputs, p.forward
    if p.folded:
        lines = [f"        {n}_ = _fold(_wide({n}), self.channel_dim, self.num_features)" for n in inputs]
    else:
        lines = [f"        {n}_ = _wide({n})" for n in inputs] if p.wide else []
    known = [*(f"{n}_" if p.folded or p.wide else n for n in inputs), *_weights(p)]
    if forward:
        names = ", ".join(m.name for m in forward)
        lines += ["        if self.training:", *(f"            {line}" for line in means_of(p, known)), f"            self._track(x_, {names})"]
        lines += ["        else:", f"            {names} = {', '.join(_per_channel(p, f'self.{m.buffer}') for m in forward)}{_BUFFERS}"]
        known += [m.name for m in forward]
    call = f"_value({', '.join(known)})"
    if p.surrogate:  # scripts, saves and loads, unlike an autograd.Function
        lines += [f"        slope = _slope({', '.join(known)})", f"        out = {call}.detach() + (slope - slope.detach())"]
        call = "out"
    if p.folded:
        return [*lines, f"        out = {call}.to(x.dtype)", _UNFOLDED]
    lines.append(f"        return {call + '.to(x.dtype)' if p.wide else call}")
    return lines


_BUFFERS = "  # type: ignore[operator]"  # to a type checker every attribute of a module may be a module
_UNFOLDED = "        return out.reshape(x.movedim(self.channel_dim, 1).shape).movedim(1, self.channel_dim)"


_FLAT_BODY = """        if {mismatch}:
            return self._plain({inputs})
        order = sorted(range(x.dim()), key=x.stride, reverse=True)  # channels_last and transposed inputs are dense too
        {moved} = {permuted}
        flat: Tensor = {function}.apply({call})  # type: ignore[no-untyped-call]
        return flat.view(x_.shape).permute([order.index(d) for d in range(x.dim())])"""


def _lean_body(p: Pieces) -> list[str]:
    inputs, forward = p.inputs, p.forward
    if p.layout == "flat":  # a flat view lets a block be any run of elements
        text = _FLAT_BODY.format(
            mismatch=" or ".join([f"{n}.shape != x.shape" for n in inputs[1:]] or ["x.is_sparse"]), inputs=", ".join(inputs),
            moved=", ".join(f"{n}_" for n in inputs), permuted=", ".join(f"{n}.permute(order).contiguous()" for n in inputs),
            call=", ".join([*(f"{n}_.view(-1)" for n in inputs), *_weights(p)]),
            function=f"_function(self.differentiable_twice, {', '.join(inputs)})" if p.slopes else "_Lean",
        )  # fmt: skip
        return text.splitlines()
    if p.layout == "row":
        call = ", ".join([*(f"{n}.reshape(-1, x.shape[-1])" for n in inputs), *_weights(p)])
        lines = [f"        if x.numel() == 0 or x.dim() == 0:\n            return self._plain({', '.join(inputs)})"]
        return [*lines, f"        out: Tensor = _Lean.apply({call})  # type: ignore[no-untyped-call]", "        return out.view(x.shape)"]
    lines = [f"        {n}_ = _fold({n}, self.channel_dim, self.num_features)" for n in inputs]
    call = f"_Lean.apply({', '.join([*(f'{n}_' for n in inputs), *_weights(p)])})"
    if not forward:
        return [*lines, f"        out: Tensor = {call}  # type: ignore[no-untyped-call]", _UNFOLDED]
    names = ", ".join(m.name for m in forward)
    returned = f"{_UNFOLDED}  # type: ignore[no-any-return]"
    return [*lines, f"        out, {names} = {call}  # type: ignore[no-untyped-call]", f"        self._track(x_, {names})", returned]


def _track(forward: Sequence[Moment], unbiased: bool) -> list[str]:
    """Running statistics; one value a channel, or an empty batch, leaves them as they are."""
    lines = ["", f"    def _track(self, x: Tensor, {', '.join(f'{m.name}: Tensor' for m in forward)}) -> None:"]
    lines += ["        count = x.numel() // max(1, x.shape[1])", "        if count > 1:"]
    for m in forward:
        factor = " * (count / (count - 1))" if m.is_variance and unbiased else ""
        target = f"self.{m.buffer}"
        lines.append(f"            {target}.mul_(1 - self.momentum).add_(self.momentum * {m.name}.detach().flatten(){factor}){_BUFFERS}")
    return lines
