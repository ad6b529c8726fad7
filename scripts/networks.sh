#!/usr/bin/env bash
# Architecture search that trains, from search to files: per-layer, micro-architecture and joint, each run, exported, and loaded with torch alone.
# About 5 minutes each on 2 cores. Safe to run again: it resumes.   scripts/networks.sh [FOLDER] [SPACE ...]
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
out="${1:-runs/networks}"
shift || true
for space in "${@:-per-layer micro-architecture joint}"; do
  for name in $space; do
    "$python" -m evosearch.cli run "search_spaces/$name.yaml" --out "$out/$name"
    "$python" -m evosearch.cli export "$out/$name" --best --to "$out/$name-network"
    "$python" -I -c '
import sys
sys.path.insert(0, sys.argv[1])
import torch
from model import load
network = load()
assert "evosearch" not in sys.modules and "safetensors" not in sys.modules
print("loaded with torch alone:", sum(p.numel() for p in network.parameters()), "parameters, answers", tuple(network(torch.zeros(2, 1, 16, 16)).shape))
' "$out/$name-network"
  done
done
