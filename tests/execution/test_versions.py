"""What is compared before a worker gets its first job."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

import evosearch
from evosearch.execution import ExecutorError, versions


def test_the_same_everywhere_is_no_error() -> None:
    here = versions.versions()
    versions.check(here, {**here, "host": "b", "cpu": "AVX512"}, "AVX2")
    versions.check(here, {**here, "host": "b", "cpu": ""}, "")


@pytest.mark.parametrize("name", ["python", "torch", "numpy", "scikit-learn", "evosearch", "source"])
def test_another_version_names_the_node_both_versions_and_the_fix(name: str) -> None:
    here = versions.versions()
    with pytest.raises(ExecutorError) as caught:
        versions.check(here, {**here, "host": "node-7", name: "0.0"}, "")
    said = str(caught.value)
    assert all(part in said for part in ("node-7", "0.0", here[name]))
    assert re.search("install", said)


def test_a_worker_that_says_nothing_of_a_package_is_refused() -> None:
    here = versions.versions()
    with pytest.raises(ExecutorError, match="torch on the node b is none"):
        versions.check(here, {name: value for name, value in {**here, "host": "b"}.items() if name != "torch"}, "")


def test_a_cpu_that_can_do_less_is_refused_and_one_that_can_do_more_is_held_back() -> None:
    here = versions.versions()
    with pytest.raises(ExecutorError, match=r"node b can do AVX2, the driver's AVX512.*ATEN_CPU_CAPABILITY=avx2"):
        versions.check(here, {**here, "host": "b", "cpu": "AVX2"}, "AVX512")


def test_the_level_of_this_cpu_is_what_torch_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    if not versions.cpu_level():
        pytest.skip("not an x86 under Linux")
    assert versions.cpu_level() == torch.backends.cpu.get_cpu_capability()


def test_a_changed_line_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "evosearch"
    shutil.copytree(Path(evosearch.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(versions, "files", lambda package: copy)
    before = versions.source_digest()
    (copy / "judging" / "train.py").write_text((copy / "judging" / "train.py").read_text() + "\n")
    assert versions.source_digest() != before


def test_a_model_whose_file_differs_on_a_node_is_refused_there() -> None:
    from evosearch.judging.fingerprint import check_models_same, model_hashes

    hashes = model_hashes(["digits/json:loads"])
    check_models_same(hashes)
    with pytest.raises(ValueError, match=r"`json:loads` on \S+ has the file .* the driver's is 0{16}.*install the same one on every node"):
        check_models_same(dict.fromkeys(hashes, "0" * 16))
