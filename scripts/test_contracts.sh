#!/usr/bin/env bash
# The tests on other libraries' models: installs timm, torchvision and transformers beside the environment, in .venv-contracts, never another torch.
# What cannot be installed is skipped with its reason. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up test
target=.venv-contracts
mkdir -p "$target"
for package in timm torchvision transformers huggingface_hub tokenizers regex httpx httpcore h11 anyio sniffio hf-xet httpx2 httpcore2 truststore; do
    [ -e "$target/.$package" ] && continue
    if .venv/bin/python -m pip install -q --no-deps --upgrade --target "$target" "$package"; then touch "$target/.$package"; else echo "not installed: $package"; fi
done
PYTHONPATH="$PWD/$target" .venv/bin/python -m pytest -q -rs -m contracts "$@"
