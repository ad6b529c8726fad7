#!/usr/bin/env bash
# The tests of minutes, which scripts/test.sh leaves out. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up test
.venv/bin/python -m pytest -q -m slow "$@"
