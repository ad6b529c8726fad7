#!/usr/bin/env bash
# The tests on other libraries: installs timm, torchvision, transformers, Lightning and JAX beside the environment, in .venv-contracts, never another torch.
# What cannot be installed is skipped with its reason. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up test
target=.venv-contracts
mkdir -p "$target"
packages="timm torchvision transformers huggingface_hub tokenizers regex httpx httpcore h11 anyio sniffio hf-xet httpx2 httpcore2 truststore"
packages+=" lightning pytorch-lightning lightning-utilities torchmetrics tqdm jax jaxlib opt_einsum ml_dtypes"
for package in $packages; do
    [ -e "$target/.$package" ] && continue
    if .venv/bin/python -m pip install -q --no-deps --upgrade --target "$target" "$package"; then touch "$target/.$package"; else echo "not installed: $package"; fi
done
PYTHONPATH="$PWD/$target" .venv/bin/python -m pytest -q -rs -m contracts "$@"
