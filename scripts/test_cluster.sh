#!/usr/bin/env bash
# The tests that start a Ray: on this machine, on hosts that are network namespaces (root and iproute2), jobs over a dashboard. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
set_up test,cluster-test
.venv/bin/python -m pytest -q -s -m cluster tests/execution tests/cluster "$@"
