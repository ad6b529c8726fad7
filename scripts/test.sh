#!/usr/bin/env bash
# Fresh clone to test results: makes .venv if needed, installs the test extra, runs ruff, mypy and pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up test
echo "ruff";  .venv/bin/ruff check evosearch tests scripts
echo "mypy";  .venv/bin/mypy
echo "pytest"; .venv/bin/python -m pytest -q "$@"
