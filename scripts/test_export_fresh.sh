#!/usr/bin/env bash
# Exported layers where torch is all there is: exports four by this checkout's .venv (or EVOSEARCH=COMMAND), makes an environment with torch alone, and
# there runs each file's own test, installs each folder by pip and trains with what was installed. The environment is kept in DIR for the next time.
#   scripts/test_export_fresh.sh [DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
if [ -z "${EVOSEARCH:-}" ]; then set_up test; EVOSEARCH=.venv/bin/evosearch; fi
place=$(realpath -m "${1:-.venv-fresh}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$place"
[ -x "$place/bin/python" ] || "${PYTHON:-python3}" -m venv "$place"
python() { env -u PYTHONPATH "$place/bin/python" "$@"; }  # whatever this checkout's user has set
python -I -W ignore -c 'import torch' 2>/dev/null || python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
if python -I -c 'import evosearch' 2>/dev/null; then fail "evosearch is installed in $place; pass another folder"; fi
if python -I -c 'import numpy' 2>/dev/null; then echo "numpy is there too"; else echo "torch $(python -I -W ignore -c 'import torch; print(torch.__version__)'), no numpy"; fi

export_layer() { # NAME FORMULA [OPTIONS]
    local name="$1" formula="$2"; shift 2
    $EVOSEARCH export --formula "$formula" --to "$work/$name" --formats ts "$@" >"$work/log" || { cat "$work/log" >&2; fail "$name was not exported"; }
    python -I "$work/$name/$name.py" | grep -q "computes" || fail "$name.py does not pass its own test"
    python -m pip install --quiet --disable-pip-version-check "$work/$name"
    (cd / && python -I -W ignore - "$name") <<'PYTHON'
import importlib, importlib.metadata, sys
import torch
name = sys.argv[1]
module = importlib.import_module(name)
assert importlib.metadata.requires(name.replace("_", "-")) == ["torch>=2.4"], importlib.metadata.requires(name.replace("_", "-"))
(kind,) = [k for k in vars(module).values() if isinstance(k, type) and issubclass(k, torch.nn.Module) and k.__module__ == name]
layer, x = kind(8), [torch.randn(4, 8, 5, 5, requires_grad=True) for _ in module.FORMULA.split("y")[:2]]
layer(*x).square().mean().backward()
assert all(t.grad is not None and t.grad.isfinite().all() for t in x)
foreign = {m.partition(".")[0] for m in sys.modules} & {"evosearch", "scipy", "pydantic", "ray", "deap"}
assert not foreign, foreign
print(f"{name}: its own test passes, pip installs it, it imports and trains")
PYTHON
}
export_layer silu_layer silu
export_layer evonorm_s0_layer evonorm_s0 --features 8
export_layer evonorm_b0_layer evonorm_b0 --features 8
export_layer gate_layer "x * sigmoid(y)"
