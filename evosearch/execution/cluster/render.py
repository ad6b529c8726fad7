"""Files that start a search on a cluster: a Slurm script, KubeRay manifests, a plain Kubernetes Job. Text in, text out; no Ray here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evosearch.execution import ExecutorError
from evosearch.execution.cluster.names import check_name

KINDS = ("slurm", "kuberay", "job")
_NOT_FOR = {"nodes": ("job",), "hours": ("kuberay", "job"), "image": ("slurm",), "claim": ("slurm",)}  # options that would do nothing


@dataclass(frozen=True)
class Order:
    """What is to run, and on how much."""

    name: str
    config: str  # the text of the YAML, which travels in the files of Kubernetes
    path: str  # of the YAML as a Slurm job finds it
    nodes: int = 1
    cores: int = 8  # of each node
    gpus: int = 0  # of each node
    memory_gb: int = 16  # of each node
    hours: int = 24
    image: str = ""
    storage: str = ""  # of Kubernetes: a claim that exists; empty: one is made
    overrides: tuple[str, ...] = ()  # as for --set


def slurm(order: Order) -> str:
    """A script for sbatch: `ray symmetric-run` starts the same on every node, the head's runs the search."""
    command = ["evosearch", "run", order.path, "--out", f"runs/{order.name}", "--executor", "ray", *_overrides(order)]
    gpus = f"#SBATCH --gpus-per-node={order.gpus}\n" if order.gpus else ""
    return f"""#!/usr/bin/env bash
# sbatch {order.name}.sbatch ; the same once more resumes. Submit it in the folder where evosearch is installed in .venv, on a file system
# that the nodes share: runs/{order.name} and the token lie there.
#SBATCH --job-name={order.name}
#SBATCH --nodes={order.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={order.cores}
#SBATCH --mem={order.memory_gb}G
{gpus}#SBATCH --time={order.hours}:00:00
#SBATCH --signal=TERM@60
#SBATCH --output={order.name}.%j.log
##SBATCH --partition=...  # as your site asks for; one # less, and it counts
##SBATCH --account=...
set -euo pipefail
. .venv/bin/activate

# a token for this cluster alone: Ray's ports are open to everybody on these nodes
umask 077
mkdir -p .ray-token
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/.ray-token/$SLURM_JOB_ID"
python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(getent ahostsv4 "$head" | awk 'NR == 1 {{ print $1 }}')
port=$((20000 + SLURM_JOB_ID % 20000))  # two jobs on a node do not meet
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_NNODES" \\
  --num-cpus={order.cores} --num-gpus={order.gpus} --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID" --disable-usage-stats -- \\
  {shlex.join(command)} --address "$address:$port"
"""


def kuberay(order: Order) -> list[dict[str, Any]]:
    """ConfigMap, claim and RayJob for KubeRay 1.5.1 or newer, which makes the cluster, its token and the job."""
    command = ["evosearch", "run", "/etc/evosearch/search.yaml", "--out", f"/runs/{order.name}", "--executor", "ray", "--address", "auto", *_overrides(order)]
    start = {"dashboard-host": "0.0.0.0"}  # within the pod's network: KubeRay's submitter is another pod, and the token is asked for
    head = {**start, "num-cpus": "0"}  # the driver has it for itself
    spec = {
        "entrypoint": shlex.join(command),
        "submissionMode": "K8sJobMode",
        "backoffLimit": 3,  # a new cluster for a lost one: the entry point resumes
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": {
            "rayVersion": RAY_VERSION,
            "authOptions": {"mode": "token"},
            "headGroupSpec": {"rayStartParams": head, "template": _pod(order, "ray-head", gpus=0)},
            "workerGroupSpecs": [
                {
                    "groupName": "workers", "replicas": order.nodes, "minReplicas": order.nodes, "maxReplicas": order.nodes,
                    "rayStartParams": {}, "template": _pod(order, "ray-worker", gpus=order.gpus),
                }
            ],
        },
    }  # fmt: skip
    return [*_beside(order), {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": _metadata(order), "spec": spec}]


def job(order: Order) -> list[dict[str, Any]]:
    """ConfigMap, claim and a Job of one pod with local workers: no Ray, no open port."""
    command = ["evosearch", "run", "/etc/evosearch/search.yaml", "--out", f"/runs/{order.name}", "--executor", "local", *_overrides(order)]
    if order.gpus:
        raise ExecutorError("local workers do not share out GPUs; render kuberay for a search on GPUs")
    pod = _pod(order, "evosearch", gpus=0)
    pod["spec"] |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 60}
    pod["spec"]["containers"][0]["command"] = command
    spec = {"backoffLimit": 6, "template": pod}
    return [*_beside(order), {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(order), "spec": spec}]


RAY_VERSION = "2.60.0"  # of the image, as constraints.txt has it


def _metadata(order: Order) -> dict[str, Any]:
    return {"name": order.name, "labels": {"app.kubernetes.io/name": "evosearch", "app.kubernetes.io/instance": order.name}}


def _beside(order: Order) -> list[dict[str, Any]]:
    """What the pods read and write: the YAML, and a claim on a volume unless there is one."""
    found: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(order), "data": {"search.yaml": order.config}}]
    if not order.storage:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
        found.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": _metadata(order), "spec": claim})
    return found


def _pod(order: Order, container: str, gpus: int) -> dict[str, Any]:
    if not order.image:
        raise ExecutorError(
            "Kubernetes needs an image with evosearch and the versions of constraints.txt: --image NAME (docs/cluster.md says how to build one)"
        )
    resources: dict[str, Any] = {"cpu": str(order.cores), "memory": f"{order.memory_gb}Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    mounts = [{"name": "config", "mountPath": "/etc/evosearch", "readOnly": True}]
    volumes: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": order.name}}]
    if container != "ray-worker":  # only the driver writes the run; a claim that many pods write is not to be had everywhere
        mounts.append({"name": "runs", "mountPath": "/runs"})
        volumes.append({"name": "runs", "persistentVolumeClaim": {"claimName": order.storage or order.name}})
    one = {
        "name": container, "image": order.image, "resources": {"requests": dict(resources), "limits": dict(resources)}, "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    safe: dict[str, Any] = {"runAsNonRoot": True}  # Ray's images run as the user 1000
    if container != "ray-worker":
        safe["fsGroup"] = 1000  # a fresh volume is root's; so that user may write to it
    return {"spec": {"containers": [one], "volumes": volumes, "securityContext": safe, "automountServiceAccountToken": False}}


def _overrides(order: Order) -> Sequence[str]:
    given = [part for override in order.overrides for part in ("--set", override)]
    return [*given, "--device", "cuda"] if order.gpus else given


def rendered(kind: str, order: Order) -> Mapping[str, str | list[dict[str, Any]]]:
    """The file's name and its text, or what the documents of its YAML are. Raises ExecutorError."""
    _check(kind, order)
    if kind == "slurm":
        return {f"{order.name}.sbatch": slurm(order)}
    return {f"{order.name}.rayjob.yaml": kuberay(order)} if kind == "kuberay" else {f"{order.name}.job.yaml": job(order)}


def check_kind(kind: str, given: Mapping[str, object]) -> None:
    """Raises ExecutorError for a kind that there is none of, and for an option that does nothing there; None is not given."""
    if kind not in KINDS:
        raise ExecutorError(f"there are files for {', '.join(KINDS)}; received {kind[:40]}")
    for name, kinds in _NOT_FOR.items():
        if kind in kinds and given.get(name) is not None:
            raise ExecutorError(f"--{name} does nothing in a file for {kind}; leave it out")


def _check(kind: str, order: Order) -> None:
    check_kind(kind, {})
    check_name(order.name)
    if kind != "slurm" and (order.name != order.name.lower() or not order.name.replace("-", "").isalnum() or len(order.name) > 47):
        raise ExecutorError(f"a name in Kubernetes has small letters, digits and -, at most 47; received {order.name}")
    for what, value, least in (
        ("nodes", order.nodes, 1),
        ("cores", order.cores, 1),
        ("gpus", order.gpus, 0),
        ("memory", order.memory_gb, 1),
        ("hours", order.hours, 1),
    ):
        if not least <= value <= 100_000:
            raise ExecutorError(f"--{what} is at least {least}; received {value}")
