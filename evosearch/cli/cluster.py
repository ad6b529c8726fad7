"""Commands around a cluster: submit, logs, stop, fetch; doctor; and files that start one."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from evosearch.cli.app import Plugins, Run, Set, load_plugins, print_lines
from evosearch.delivery.layout import printable

Address = Annotated[str, typer.Option(help="The dashboard of the cluster's head, e.g. http://127.0.0.1:8265")]
Name = Annotated[str, typer.Argument(help="The run's name, as it was submitted.")]
Insecure = Annotated[bool, typer.Option("--insecure-cluster", help="Work with a cluster that has no token.")]
Runs = Annotated[str, typer.Option(help="The folder of runs on the head, or on a file system that all nodes share.")]
RUNS = "~/evosearch-runs"


def submit(
    config: Annotated[str, typer.Argument(help="A YAML file below this folder, or the name of one of search_spaces/.")],
    address: Address,
    name: Annotated[Optional[str], typer.Option(help="The run's name; the file's without it. A name that is there resumes.")] = None,
    set_: Set = None,
    plugin: Plugins = None,
    runs: Runs = RUNS,
    insecure_cluster: Insecure = False,
) -> None:
    """Run a search on a Ray cluster, as a job of its head. The same once more resumes it."""
    from evosearch.config import ConfigError, find_space, load

    load_plugins(plugin)
    load(config, set_ or ())
    file, here = find_space(config).resolve(), Path.cwd()
    name = name or file.stem
    outside = [path for path in (file, *(path.resolve() for path in plugin or ())) if not path.is_relative_to(here)]
    if os.path.isfile(config) and outside:
        raise ConfigError(f"this folder travels to the cluster, and {outside[0]} is not below it; go to a folder that holds all of them")
    shown = str(file.relative_to(here)) if file.is_relative_to(here) else config
    from evosearch.execution.cluster.jobs import Jobs
    from evosearch.execution.cluster.names import check_name

    command = ["python", "-m", "evosearch.cli", "run", shown, "--out", f"{runs.rstrip('/')}/{check_name(name)}", "--executor", "ray", "--address", "auto"]
    command += [part for path in plugin or () for part in ("--plugin", str(path.resolve().relative_to(here)))]
    command += [part for override in set_ or () for part in ("--set", override)]
    typed = shlex.join(["evosearch", *sys.argv[1:]])
    job, is_new = Jobs(address, insecure_cluster).submit(name, command + ["--insecure-cluster"] * insecure_cluster, here, typed)
    what = "submitted" if is_new else f"is {job.status.lower()} already"
    print_lines([f"{name} {what} (job {job.id}). Next: evosearch logs {name} --address {address} --follow; then evosearch fetch {name} --address {address}"])


def logs(
    name: Name,
    address: Address,
    follow: Annotated[bool, typer.Option("--follow", help="Until the job ends.")] = False,
    insecure_cluster: Insecure = False,
) -> None:
    """Show what a submitted search has printed.

    Exit code 1 if it failed.
    """
    from evosearch.execution.cluster.jobs import Jobs

    jobs = Jobs(address, insecure_cluster)
    for part in jobs.logs(name, follow):
        print(printable(part.replace("\t", "    ")), end="", flush=True)
    if job := jobs.latest(name):
        print(printable(f"job {job.id}: {job.said()}"), file=sys.stderr)
        if job.status == "FAILED":
            raise typer.Exit(1)


def stop(name: Name, address: Address, insecure_cluster: Insecure = False) -> None:
    """Stop a submitted search; what it has told is kept on the head."""
    from evosearch.execution.cluster.jobs import Jobs

    job = Jobs(address, insecure_cluster).stop(name)
    print_lines([f"{name} (job {job.id}): {job.status}; the same submit resumes it"])


def fetch(
    name: Name,
    address: Address,
    out: Annotated[Optional[Path], typer.Option(help="The run's folder here; runs/NAME without it.")] = None,
    runs: Runs = RUNS,
    insecure_cluster: Insecure = False,
    largest: Annotated[int, typer.Option("--max-mb", min=1, max=2000, help="The most that is fetched.")] = 256,
) -> None:
    """Bring a submitted search home, also while it runs.

    Once more brings it home as it is then.
    """
    from evosearch.delivery.fetched import bring, refuse_unless_fetched
    from evosearch.execution.cluster.jobs import Jobs
    from evosearch.execution.cluster.names import check_name

    directory = out or Path("runs") / check_name(name)
    refuse_unless_fetched(directory)
    command = ["python", "-m", "evosearch.cli", "cluster", "parcel", f"{runs.rstrip('/')}/{check_name(name)}", "--max-mb", str(largest)]
    lines = Jobs(address, insecure_cluster).output(name, command, patience=300.0).splitlines()
    size = bring(lines, directory, largest << 20)
    print_lines([f"{directory}: {size} bytes. Next: evosearch top {directory}"])


def parcel(directory: Run, largest: Annotated[int, typer.Option("--max-mb", min=1, max=2000)] = 256) -> None:
    """Print a run as the lines that `evosearch fetch` reads; runs on the head."""
    from evosearch.delivery.parcel import pack

    for line in pack(directory, largest << 20):
        print(line)


def token(file: Annotated[Optional[Path], typer.Option(help="Where; Ray's own place without it.")] = None) -> None:
    """Make a token for a cluster, in a file that its owner alone reads."""
    from evosearch.execution.cluster.token import make_token, token_file

    file = file or token_file()
    make_token(file)
    print_lines([f"{file} holds a new token; copy it to every node, and start their Ray with RAY_AUTH_MODE=token"])


def render(
    kind: Annotated[str, typer.Argument(help="slurm, kuberay, or job: a Kubernetes Job without Ray.")],
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of one of search_spaces/, e.g. smoke.")],
    name: Annotated[Optional[str], typer.Option(help="The run's name; the file's without it.")] = None,
    nodes: Annotated[Optional[int], typer.Option(help="Nodes that work; 2 without it. Not for job, which is one pod.")] = None,
    cores: Annotated[int, typer.Option(help="Of each node.")] = 8,
    gpus: Annotated[int, typer.Option(help="Of each node; above 0 the device is cuda.")] = 0,
    memory: Annotated[int, typer.Option(help="GiB of each node.")] = 16,
    hours: Annotated[Optional[int], typer.Option(help="Of the Slurm job; 24 without it.")] = None,
    image: Annotated[Optional[str], typer.Option(help="The container, for Kubernetes.")] = None,
    claim: Annotated[Optional[str], typer.Option(help="A PersistentVolumeClaim that exists, for Kubernetes; one is made without it.")] = None,
    set_: Set = None,
    to: Annotated[Path, typer.Option(help="Folder of the files.")] = Path(),
) -> None:
    """Write a file that starts a search on a cluster of yours."""
    from evosearch.config import find_space, load
    from evosearch.delivery.manifest import documents
    from evosearch.execution.cluster.render import Order, check_kind, rendered
    from evosearch.search.store import LogError

    check_kind(kind, {"nodes": nodes, "hours": hours, "image": image, "claim": claim})
    load(config, set_ or ())
    file = find_space(config)
    order = Order(
        name or file.stem, file.read_text(encoding="utf-8"), config, 2 if nodes is None else nodes, cores, gpus, memory,
        24 if hours is None else hours, image or "", claim or "", tuple(set_ or ()),
    )  # fmt: skip
    for target, content in rendered(kind, order).items():
        path = to / target
        if os.path.lexists(path):
            raise LogError(f"{path} is there already; remove it, or choose another folder with --to")
        to.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else documents(content), encoding="utf-8")
        print_lines([f"{path} is written. Next: {'sbatch' if kind == 'slurm' else 'kubectl apply -f'} {path}"])


def doctor(
    address: Annotated[Optional[str], typer.Option(help="A cluster: auto, or host:port of its head. Every node is looked at.")] = None,
    insecure_cluster: Insecure = False,
) -> None:
    """Look at this machine, or at each node of a cluster.

    Says what is wrong and how to mend it.
    """
    from evosearch.execution.cluster.doctor import FAIL, cluster, this_machine

    failed = 0
    findings = [*this_machine(Path.cwd())]
    for finding in findings:
        _print(finding.level, finding.what, finding.fix)
    failed += sum(finding.level == FAIL for finding in findings)
    if address:
        from evosearch.run import cpu_capability

        for finding in cluster(address, insecure_cluster, cpu_capability()):
            _print(finding.level, finding.what, finding.fix)
            failed += finding.level == FAIL
    if failed:
        raise typer.Exit(1)


def _print(level: str, what: str, fix: str) -> None:
    print_lines([f"{level:4}  {what}" + (f"\n      fix: {fix}" if fix and level != "OK" else "")])
