# Sourced by quickstart.sh and test.sh: `set_up EXTRA` makes .venv and installs evosearch into it, once per change of the requirements.
fail() { echo "$0: $1" >&2; exit 1; }

set_up() {
  local extra="$1" python="${PYTHON:-}" candidate stamp free
  if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3.13 python3; do
      if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python="$candidate"; break
      fi
    done
  fi
  [ -n "$python" ] || fail "needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python)"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "needs Python 3.11 or newer; $python is older"
  free=$(df -Pm . | awk 'NR == 2 { print $4 }')
  if [ ! -d .venv ]; then
    [ "$free" -ge 4000 ] || fail "needs 4 GB of free disk for the environment; $free MB are left here"
    echo "creating .venv with $("$python" --version)"
    "$python" -m venv .venv || fail "could not create .venv (on Debian: apt-get install python3-venv)"
  fi
  stamp=".venv/.installed-$extra-$(cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)"
  if [ ! -f "$stamp" ] || ! .venv/bin/python -c 'import evosearch, torch' 2>/dev/null; then
    echo "installing evosearch and the versions of constraints.txt into .venv (a few minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0" \
      || fail "pip could not install torch; is the network there? Other platforms: see README, 'Installing'"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extra]" \
      || fail "pip could not install evosearch; is the network there?"
    touch "$stamp"
  fi
}
