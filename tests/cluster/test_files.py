"""The files that start a cluster: cluster.yaml by Ray's schema, the Slurm script by bash, manifests by Kubernetes' schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from typer.testing import CliRunner

from evosearch.cli import app
from evosearch.execution import ExecutorError
from evosearch.execution.cluster import render
from evosearch.execution.cluster.render import Order, rendered
from tests.cluster.kuberay import RAY_JOB

ROOT = Path(__file__).parents[2]
ORDER = Order(
    "first", "space: {}\n", "search_spaces/smoke.yaml", nodes=3, gpus=2, image="registry.example/evosearch:1", overrides=("budget.evaluations=40", "seed=1")
)


def documents(kind: str, order: Order = ORDER) -> list[dict[str, Any]]:
    (found,) = rendered(kind, order).values()
    assert not isinstance(found, str)
    return found


def test_cluster_yaml_is_what_ray_up_takes() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    jsonschema.validate(config, json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text()))
    types = config["available_node_types"]
    assert config["head_node_type"] in types
    assert config["max_workers"] >= max(kind.get("max_workers", 0) for kind in types.values())
    commands = [*config["setup_commands"], *config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    for command in commands:
        assert subprocess.run(["bash", "-n"], input=command, text=True).returncode == 0
    assert all("RAY_AUTH_MODE=token" in command for command in commands if "ray start" in command)
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert any("-c constraints.txt" in command for command in commands)


def test_a_key_that_ray_up_does_not_know_is_refused() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text()) | {"setup_comands": []}
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        jsonschema.validate(config, json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text()))


@pytest.mark.parametrize("gpus", [0, 2])
def test_the_slurm_script_is_bash_and_has_what_it_says(gpus: int, tmp_path: Path) -> None:
    (text,) = rendered("slurm", Order("first", "", "a b.yaml", nodes=3, gpus=gpus, overrides=("x=$(id)",))).values()
    assert isinstance(text, str)
    (tmp_path / "s").write_text(text)
    assert subprocess.run(["bash", "-n", str(tmp_path / "s")]).returncode == 0
    assert "#SBATCH --nodes=3" in text
    assert ("#SBATCH --gpus-per-node=2" in text) == ("--device cuda" in text) == bool(gpus)
    assert "ray symmetric-run" in text
    assert "'a b.yaml'" in text
    assert "'x=$(id)'" in text
    assert "RAY_AUTH_MODE=token" in text


def stub(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_the_slurm_script_starts_the_same_on_every_node_with_a_token_of_its_own(tmp_path: Path) -> None:
    (text,) = rendered("slurm", Order("first", "", "search.yaml", nodes=2)).values()
    assert isinstance(text, str)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    stub(tmp_path, "scontrol", "printf 'alpha\\nbeta\\n'")
    stub(tmp_path, "getent", 'echo "10.1.2.3 STREAM $2"')
    stub(tmp_path, "srun", 'echo "$@"; stat -c "%a" "$RAY_AUTH_TOKEN_PATH"; wc -c <"$RAY_AUTH_TOKEN_PATH"; exit 3')
    environment = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"}
    stub(tmp_path, "python", f'exec "{sys.executable}" "$@"')  # not whichever python3 this machine may have
    done = subprocess.run(["bash", "-s"], input=text, text=True, capture_output=True, cwd=tmp_path, env=environment)
    command, mode, size = done.stdout.splitlines()
    assert done.returncode == 3, done.stderr
    assert command.startswith("--nodes=2 --ntasks=2 ray symmetric-run --address 10.1.2.3:20017 --min-nodes 2")
    assert command.endswith("-- evosearch run search.yaml --out runs/first --executor ray --address 10.1.2.3:20017")
    assert (mode, size) == ("600", "64")
    assert list((tmp_path / ".ray-token").iterdir()) == []  # gone with the job


def test_kuberay_files_are_what_kubernetes_and_kuberay_take() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    config, claim, job = documents("kuberay")
    for document in (config, claim):
        validate(document, "1.34", strict=True)
    jsonschema.validate(job, RAY_JOB)
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": group["template"]["spec"]}, "1.34", strict=True)
        assert group["template"]["spec"]["containers"][0]["image"] == ORDER.image
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["workerGroupSpecs"][0]["replicas"] == 3
    assert "nvidia.com/gpu" not in str(cluster["headGroupSpec"])
    assert config["data"]["search.yaml"] == ORDER.config


def test_a_kubernetes_job_needs_no_ray_and_opens_no_port() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    found = documents("job", Order("first", "a: 1\n", "x.yaml", image="i", storage="mine"))
    for document in found:
        validate(document, "1.34", strict=True)
    assert [document["kind"] for document in found] == ["ConfigMap", "Job"]
    assert "ports" not in str(found)
    assert "'--executor', 'local'" in str(found)


@pytest.mark.parametrize("change", [{"backofLimit": 1}, {"submissionMode": "Later"}, {"entrypoint": 3}])
def test_the_schema_of_kuberay_refuses_what_it_does_not_know(change: dict[str, object]) -> None:
    job = documents("kuberay")[-1]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**job, "spec": {**job["spec"], **change}}, RAY_JOB)


@pytest.mark.parametrize(
    ("kind", "order", "message"),
    [
        ("nomad", Order("../x", "", "a"), "there are files for slurm, kuberay, job; received nomad"),
        ("slurm", Order("../x", "", "a"), "begins with a letter or digit; received '../x'"),
        ("slurm", Order("a", "", "a", nodes=0), "--nodes is at least 1; received 0"),
        ("kuberay", Order("A_b", "", "a", image="i"), "small letters, digits and -"),
        ("kuberay", Order("a", "", "a"), "Kubernetes needs an image"),
        ("job", ORDER, "local workers do not share out GPUs"),
    ],
)
def test_what_makes_no_file_is_said(kind: str, order: Order, message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        rendered(kind, order)


@pytest.mark.parametrize(("kind", "option"), [("kuberay", "hours"), ("job", "hours"), ("job", "nodes"), ("slurm", "image"), ("slurm", "claim")])
def test_an_option_that_does_nothing_is_refused_and_a_wrong_kind_is_said_first(kind: str, option: str, tmp_path: Path) -> None:
    arguments = ["cluster", "render", kind, "smoke", f"--{option}", "3", "--to", str(tmp_path)]
    with pytest.raises(ExecutorError, match=f"--{option} does nothing in a file for {kind}"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    with pytest.raises(ExecutorError, match="received nomad"):
        CliRunner().invoke(app, ["cluster", "render", "nomad", "no-such-file"], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_each_kind_has_a_file_of_its_own_from_the_bare_name_of_a_space(tmp_path: Path) -> None:
    for kind, more in (("slurm", []), ("kuberay", ["--image", "i"]), ("job", ["--image", "i"])):
        CliRunner().invoke(app, ["cluster", "render", kind, "smoke", *more, "--to", str(tmp_path)], catch_exceptions=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["smoke.job.yaml", "smoke.rayjob.yaml", "smoke.sbatch"]
    assert "\n##SBATCH --partition=" in (tmp_path / "smoke.sbatch").read_text()


def test_pods_are_not_root_and_may_write_the_volume() -> None:
    cluster = documents("kuberay")[-1]["spec"]["rayClusterSpec"]
    head, worker = (group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]))
    pod = documents("job", Order("first", "", "a", image="i"))[-1]["spec"]["template"]["spec"]
    assert head["securityContext"] == pod["securityContext"] == {"runAsNonRoot": True, "fsGroup": 1000}
    assert worker["securityContext"] == {"runAsNonRoot": True}


def test_render_writes_once_and_says_the_next_command(tmp_path: Path) -> None:
    arguments = ["cluster", "render", "kuberay", str(ROOT / "search_spaces/smoke.yaml"), "--image", "i", "--to", str(tmp_path)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert f"Next: kubectl apply -f {tmp_path}/smoke.rayjob.yaml" in done.output
    text = (tmp_path / "smoke.rayjob.yaml").read_text()
    assert next(iter(yaml.safe_load_all(text)))["data"]["search.yaml"] == (ROOT / "search_spaces/smoke.yaml").read_text()
    with pytest.raises(ValueError, match="is there already"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (tmp_path / "smoke.rayjob.yaml").read_text() == text


def test_the_version_of_ray_in_the_files_is_that_of_the_constraints() -> None:
    assert f"ray=={render.RAY_VERSION}" in (ROOT / "constraints.txt").read_text().splitlines()
