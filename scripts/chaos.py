"""What is promised of a run, under attack: `kill` ends all at random moments, `full` takes the room, `flips` turns bits. Exit code 1 for any loss.

    python scripts/chaos.py kill --kills 200                    # local and Ray runs in turn: half an hour or more
    python scripts/chaos.py kill --kills 20 --executor local
    python scripts/chaos.py full --points 50                    # as root, on a tmpfs of its own
    python scripts/chaos.py flips --flips 2000                  # of every file of a finished run: does `evosearch check` find each?

A quick search of a toy task is run once undisturbed, then again and again. `kill`: kill -9 of the driver, its workers, and all of
Ray's processes, in random order, while it starts, searches, closes a segment, resumes, or checks its pick; the same command
resumes it until it ends. Every evaluation leaves a line in a ledger outside the run's folder, which the worker writes before it begins.
Judged after every kill and at the end: no result that was in the log is lost or changed, none is evaluated again, at most a window of
evaluations a kill is repeated, the folder can be read, and the table of candidates is that of the undisturbed run. `full`: the driver
ends with code 2 and one line that names a path and the free bytes; once there is room the same command goes on. The rest is judged alike.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evosearch.search.soundness import examine
from evosearch.search.store import LogError, read_run

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 4
SPACE = f"""\
space:
  operators: [add, mul, max, min, neg, square, tanh, sigmoid, sin, cos, gaussian, softplus]
  max_nodes: 8
judging:
  quality: {{pairs: [toy/own], steps: 10, rates: [1]}}
  full: {{pairs: [toy/own], steps: 10, rates: [1, 3], seeds: 2}}
  final: {{pairs: [other/own], steps: 10, rates: [1], seeds: 2}}
  promote: 0.3
baselines: [identity, relu, tanh, sine]
proposers: {{genetic: 0.4, random: 0.4, bayes: 0.2}}
budget: {{evaluations: 40}}
window: {WINDOW}
execution: {{workers: 2, segment_rows: 9}}
"""
PLUGIN = '''\
import os

import torch

import evosearch
from evosearch.judging import evaluate as evaluation

LEDGER = {ledger!r}


def loop(make_layer, seed, budget, frequency):
    model = torch.nn.Sequential(torch.nn.Linear(1, 8), make_layer(8), torch.nn.Linear(8, 1))
    x = torch.linspace(-3, 3, 64)[:, None]
    optimizer = torch.optim.Adam(model.parameters(), 0.02 * budget.rate)
    for _ in range(budget.steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), torch.sin(frequency * x))
        loss.backward()
        optimizer.step()
    return {{"error": float(loss.detach())}}


@evosearch.task(name="toy", metric="error", direction=-1)
def toy(make_layer, seed, budget):
    """A sine."""
    return loop(make_layer, seed, budget, 1.0)


@evosearch.task(name="other", metric="error", direction=-1)
def other(make_layer, seed, budget):
    """A faster sine."""
    return loop(make_layer, seed, budget, 2.0)


def noted(jobs, plan, whole=evaluation.evaluate):
    handle = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, b"".join(b"%d\\n" % job.index for job in jobs))
    os.close(handle)
    return whole(jobs, plan)


if not hasattr(evaluation, "is_noted"):
    evaluation.evaluate, evaluation.is_noted = noted, True
'''
Table = dict[int, dict[str, Any]]


@dataclass
class Attacked:
    """One run and what was seen of it: the results that were in its log at some moment, and how often each was evaluated by then."""

    folder: Path  # of everything
    executor: str
    logged: Table = field(default_factory=dict)
    counted: dict[int, int] = field(default_factory=dict)
    attacks: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    disk: Path | None = None  # where the run's folder is, if elsewhere

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "space.yaml").write_text(SPACE)
        (self.folder / "toy_loops.py").write_text(PLUGIN.format(ledger=str(self.folder / "ledger")))

    @property
    def directory(self) -> Path:
        return (self.disk or self.folder) / "run"

    @property
    def tag(self) -> str:
        return f"EVOSEARCH_CHAOS={self.folder}"

    def start(self) -> subprocess.Popen[bytes]:
        """The command, the same every time."""
        command = [sys.executable, "-m", "evosearch.cli", "run", "space.yaml", "--out", str(self.directory), "--plugin", "toy_loops.py"]
        name, value = self.tag.split("=")
        environment = os.environ | {name: value, "RAY_TMPDIR": ray_folder(self.folder), "PYTHONPATH": str(ROOT)}
        with open(self.folder / "output", "wb") as output:
            return subprocess.Popen(
                [*command, "--executor", self.executor], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def ledger(self) -> Counter[int]:
        """How often each job was begun."""
        file = self.folder / "ledger"
        return Counter(int(line) for line in file.read_text().split("\n")[:-1]) if file.exists() else Counter()

    def table(self) -> Table:
        """The run's rows with an index, as a reader sees them; empty before it is one."""
        if not (self.directory / "run.yaml").exists():
            return {}
        rows = [row for row in read_run(self.directory)[0] if row["index"] is not None]
        found = {row["index"]: row for row in rows}
        if len(found) < len(rows):
            self.faults.append("a result is there twice")
        return found

    def look(self) -> None:
        """Compares the log with what it held before, and the ledger with what it counted for what was in the log then."""
        try:
            found, counted = self.table(), self.ledger()
        except LogError as error:
            self.faults.append(f"not readable: {error}")
            return
        for index, row in self.logged.items():
            if index not in found:
                self.faults.append(f"the result of job {index} is lost")
            elif any(found[index][key] != row[key] for key in ("scores", "seconds", "worker", "status")):
                self.faults.append(f"the result of job {index} is another one")
            if counted[index] != self.counted[index]:
                self.faults.append(f"job {index} was in the log, and was evaluated again")
        for index in found:
            if not counted[index]:
                self.faults.append(f"job {index} is in the log, but not in the ledger")
        self.logged, self.counted = found, {index: counted[index] for index in found}

    def judge(self, reference: list[str]) -> str:
        """The last look, and the run in one line."""
        self.look()
        repeated = sum(self.ledger().values()) - len(self.ledger())
        if repeated > WINDOW * self.attacks.total():
            self.faults.append(f"{repeated} evaluations were repeated, more than {WINDOW} a kill")
        if comparable(self.directory) != reference:
            self.faults.append("the table of candidates is not that of the undisturbed run")
        moments = ", ".join(f"{count} {moment}" for moment, count in sorted(self.attacks.items()))
        verdict = "; ".join(dict.fromkeys(self.faults)) or "lost 0, evaluated again 0, table equal"
        return f"{self.executor:5} {self.attacks.total():3} ({moments}): {len(self.logged)} results, {repeated} repeated that were in flight; {verdict}"


def ray_folder(folder: Path) -> str:
    """Ray's own folder: a short path, since sockets lie in it."""
    return f"/tmp/chaos-ray-{abs(hash(str(folder))) % 10**6}"


def comparable(directory: Path) -> list[str]:
    """Every row without what differs from run to run: who evaluated it, and how long that took."""
    rows = sorted(read_run(directory)[0], key=lambda row: (row["ask"], row["attempt"]))
    return [repr({key: value for key, value in row.items() if key not in ("worker", "seconds")}) for row in rows]


def tagged(tag: str) -> list[int]:
    """Every living process of the run, wherever it is in the tree: what it was started with says so."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if tag.encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:
                continue  # it ended, or is somebody else's
    return found


def kill_all(driver: subprocess.Popen[bytes], tag: str, rng: random.Random) -> None:
    """kill -9 of the driver's group and all that it started, in random order, until nothing is left."""
    while processes := tagged(tag):
        rng.shuffle(processes)
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
    driver.wait()


def wait_for(driver: subprocess.Popen[bytes], happened: Callable[[], bool], patience: float = 1200.0) -> bool:
    """Whether it happened before the driver ended."""
    deadline = time.monotonic() + patience
    while driver.poll() is None:
        if happened():
            return True
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened for {patience:g} s")
        time.sleep(0.002)
    return False


def one_life(run: Attacked, rng: random.Random, startup: float) -> bool:
    """Starts the run and kills it at a random moment; True when it ended before that."""
    driver = run.start()
    moment = rng.choices(["starting", "searching", "closing"], [0.25, 0.55, 0.2])[0]
    if moment == "starting":
        wait = rng.uniform(0, 1.2 * startup)
        begun = time.monotonic()
        reached = wait_for(driver, lambda: time.monotonic() - begun > wait)
    elif moment == "searching":
        lines = run.ledger().total() + rng.randint(1, 12)
        reached = wait_for(driver, lambda: run.ledger().total() >= lines)
        time.sleep(rng.uniform(0, 0.15))
    else:
        parts = {p.name for p in run.directory.glob("results/*")}
        reached = wait_for(driver, lambda: bool({p.name for p in run.directory.glob("results/*")} - parts))
        time.sleep(rng.choice([0, 0, 0.002, 0.01, 0.03]))
    if not reached:
        if driver.returncode != 0:
            run.faults.append(f"ended by itself with code {driver.returncode}: {run.output()[-600:]}")
        kill_all(driver, run.tag, rng)
        return True
    kill_all(driver, run.tag, rng)
    shutil.rmtree(ray_folder(run.folder), ignore_errors=True)
    run.attacks[moment] += 1
    run.look()
    return False


def undisturbed(folder: Path) -> tuple[list[str], float]:
    """The table of the run that nothing befalls, and the seconds until its first evaluation."""
    run = Attacked(folder, "local")
    begun, driver = time.monotonic(), run.start()
    wait_for(driver, lambda: bool(run.ledger()))
    startup = time.monotonic() - begun
    if driver.wait() != 0:
        raise SystemExit(f"the undisturbed run failed:\n{run.output()[-2000:]}")
    return comparable(run.directory), startup


def kill(kills: int, executors: list[str], seed: int, folder: Path) -> bool:
    """As many kills as asked for, over as many runs as they take; whether all is well."""
    rng, done, sound, number = random.Random(seed), Counter[str](), True, 0
    reference, startup = undisturbed(folder / "undisturbed")
    print(f"undisturbed: {len(reference)} rows, first evaluation after {startup:.1f} s", flush=True)
    while done.total() < kills:
        run = Attacked(folder / f"run-{number}", executors[number % len(executors)])
        # nothing, once enough were killed, disturbs the last
        while not (ended := one_life(run, rng, startup)) and done.total() + run.attacks.total() < kills:
            pass
        if not ended:
            driver = run.start()
            if driver.wait() != 0:
                run.faults.append(f"could not be resumed: {run.output()[-600:]}")
        print(f"run {number} {run.judge(reference)}", flush=True)
        done.update(run.attacks)
        sound &= not run.faults
        if not run.faults:
            shutil.rmtree(run.folder)
        number += 1
    print(f"{done.total()} kills over {number} runs ({', '.join(f'{c} {m}' for m, c in sorted(done.items()))}): {'all sound' if sound else 'NOT SOUND'}")
    return sound


def fill(disk: Path, rng: random.Random) -> None:
    """Takes the room that is left, but for a page or two: so it is another write that is refused each time."""
    with open(disk / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            filler.truncate(max(0, filler.tell() - 4096 * rng.choice([0, 0, 1, 2, 4, 8])))


def one_fill(run: Attacked, rng: random.Random) -> bool:
    """Starts the run and fills its disk at a random moment; True when it ended before that had an effect."""
    assert run.disk is not None
    driver = run.start()
    lines = run.ledger().total() + rng.randint(0, 10)
    if wait_for(driver, lambda: run.ledger().total() >= lines and (run.directory / "run.yaml").exists()):
        time.sleep(rng.uniform(0, 0.1))
        fill(run.disk, rng)
    code = driver.wait()
    (run.disk / "filler").unlink(missing_ok=True)
    if code == 0:
        return True
    run.attacks["full"] += 1
    said = [line for line in run.output().splitlines() if line.startswith("evosearch: ")]
    right = len(said) == 1 and re.search(r" cannot be written \(No space left on device; \d+ bytes free\); make room", said[0])
    if code != 2 or not right or str(run.directory) not in said[0] or "Traceback" in run.output():
        run.faults.append(f"ended with code {code}: {run.output()[-600:]}")
    if tagged(run.tag):
        time.sleep(3)
        run.faults += [f"process {process} was left behind" for process in tagged(run.tag)]
    run.look()
    return False


def full(points: int, seed: int, folder: Path) -> bool:
    """A tmpfs of a few megabytes, filled as often as asked for; whether all is well."""
    if os.geteuid() != 0:
        print("skipped: mounting a tmpfs needs root")
        return True
    rng, done, sound, number = random.Random(seed), 0, True, 0
    reference, _ = undisturbed(folder / "undisturbed")
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(disk)], check=True)
    try:
        while done < points:
            run = Attacked(folder / f"run-{number}", "local", disk=disk)
            while not (ended := one_fill(run, rng)) and done + run.attacks.total() < points:
                pass
            if not ended and run.start().wait() != 0:
                run.faults.append(f"could not be resumed: {run.output()[-600:]}")
            print(f"run {number} {run.judge(reference)}", flush=True)
            done, sound, number = done + run.attacks.total(), sound and not run.faults, number + 1
            shutil.rmtree(run.directory)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    print(f"{done} times full over {number} runs: {'all sound' if sound else 'NOT SOUND'}")
    return sound


def flips(count: int, seed: int, folder: Path) -> bool:
    """As many single bits, spread evenly over the kinds of files of a finished run and then over their bits; whether check finds each."""
    undisturbed(folder / "undisturbed")
    rng, directory = random.Random(seed), folder / "undisturbed" / "run"
    kinds = [[directory / name] for name in ("journal.jsonl", "run.yaml", "status.json", "summary.json")] + [sorted(directory.glob("results/*.parquet"))]
    if any(finding.sound is not True for finding in examine(directory, WINDOW)):
        print("the undisturbed run is not sound")
        return False
    tried, missed = Counter[str](), []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        file = rng.choice(kind)
        before = file.read_bytes()
        bit = rng.randrange(8 * len(before))
        changed = bytearray(before)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        if not any(finding.sound is False for finding in examine(directory, WINDOW)):
            missed.append(f"bit {bit} of {file.name}")
        file.write_bytes(before)
        tried["parts" if len(kind) > 1 else file.name] += 1
    shown = ", ".join(f"{number} of {name}" for name, number in tried.items())
    print(f"{count} flipped bits ({shown}): {len(missed)} accepted {missed[:5] or ''}")
    return not missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    killing = commands.add_parser("kill")
    killing.add_argument("--kills", type=int, default=200)
    killing.add_argument("--executor", choices=["local", "ray", "both"], default="both")
    filling = commands.add_parser("full")
    filling.add_argument("--points", type=int, default=50)
    flipping = commands.add_parser("flips")
    flipping.add_argument("--flips", type=int, default=2000)
    for command in (killing, filling, flipping):
        command.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    if arguments.command == "kill":
        executors = ["local", "ray"] if arguments.executor == "both" else [arguments.executor]
        sound = kill(arguments.kills, executors, arguments.seed, folder)
    elif arguments.command == "full":
        sound = full(arguments.points, arguments.seed, folder)
    else:
        sound = flips(arguments.flips, arguments.seed, folder)
    if sound:
        shutil.rmtree(folder)
    else:
        print(f"what is left for a look: {folder}")
    sys.exit(not sound)


if __name__ == "__main__":
    main()
