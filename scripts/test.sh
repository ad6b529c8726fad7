#!/usr/bin/env bash
# Fresh clone to test results: makes .venv if needed, installs the test extra, runs ruff, mypy and pytest. Arguments go to pytest, in one process.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up test
echo "ruff";  .venv/bin/ruff check evosearch tests scripts
echo "mypy";  .venv/bin/mypy
if [ $# -gt 0 ]; then exec .venv/bin/python -m pytest -q "$@"; fi
alone="tests/execution tests/test_stopping.py"  # they look at clocks and at all processes of this one: nothing runs beside them
echo "pytest, two at a time"; .venv/bin/python -m pytest -q -n 2 --dist worksteal $(printf -- '--ignore=%s ' $alone) --durations 30
echo "pytest, alone"; .venv/bin/python -m pytest -q $alone
