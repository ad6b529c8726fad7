#!/usr/bin/env bash
# Fresh clone to results: makes .venv, installs, runs the default search. 6 to 9 minutes on 2 cores, about 5 of them the search.
# Safe to run again: it resumes. Ctrl-C stops it after what is in flight (exit code 130).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up run
out="${1:-runs/quickstart}"
echo "searching (about 5 minutes on 2 cores): evosearch run search_spaces/activation.yaml --out $out"
.venv/bin/evosearch run search_spaces/activation.yaml --out "$out"
echo "done. See it again: .venv/bin/evosearch top $out"
