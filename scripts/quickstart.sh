#!/usr/bin/env bash
# Fresh clone to results: makes .venv, installs, runs the default search (about 5 minutes on 2 cores). Safe to run again: it resumes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up run
out="${1:-runs/quickstart}"
echo "searching: evosearch run search_spaces/activation.yaml --out $out"
.venv/bin/evosearch run search_spaces/activation.yaml --out "$out"
echo "done. See it again:   .venv/bin/evosearch top $out"
echo "take the layer home: .venv/bin/evosearch export $out --best --to my_layer"
