"""Standard streams that are closed or full, and paths of users that are not there: one line at most, and the exit code is the command's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evosearch.config import ConfigError, load

COMMAND = f"{sys.executable} -m evosearch.cli"


def shell(line):
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code_and_no_other_stream(closed):
    code, out, err = shell(f"{COMMAND} --version {closed}")
    assert (code, "evosearch " in out, err) == (0, ">&-" not in closed.replace("2>&-", ""), "")
    code, out, err = shell(f"{COMMAND} serach {closed}")
    assert (code, out, "No such command" in err) == (2, "", "2>&-" not in closed)


@pytest.mark.parametrize(("closed", "number"), [(">&-", 1), ("<&-", 0), ("2>&-", 2)])
def test_what_is_opened_next_is_not_taken_for_the_stream(closed, number, tmp_path):
    code = "import os, sys\nsys.argv = ['evosearch', '--version']\nfrom evosearch.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += f"open({str(tmp_path / 'n')!r}, 'w').write(str(os.open('/dev/null', os.O_RDONLY) == {number}) + os.readlink('/proc/self/fd/{number}'))"
    shell(f'{sys.executable} -c "{code}" {closed}')
    assert (tmp_path / "n").read_text() == "False/dev/null"


def test_a_full_standard_output_is_named():
    code, _, err = shell(f"{COMMAND} --version > /dev/full")
    assert (code, err) == (2, "evosearch: standard output cannot be written (No space left on device)\n")
    code, _, err = shell(f"{COMMAND} serach > /dev/full")
    assert (code, "No such command" in err, len(err.splitlines())) == (2, True, 1)


@pytest.mark.parametrize("override", ["data.q=~nosuchuser/x.csv", "seeds=[{run: ~nosuchuser/x}]"])
def test_the_home_of_nobody_is_a_path_that_is_not_there(override):
    with pytest.raises(ConfigError, match="nosuchuser"):
        load("smoke.yaml", [override])


def test_a_time_limit_has_a_floor():
    with pytest.raises(ConfigError, match=r"execution.time_limit"):
        load("smoke.yaml", ["execution.time_limit=1e-320"])
