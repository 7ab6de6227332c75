"""The manifests of `pipelines/deploy` are what Kubernetes and the image's command line take.

Kinds of Kubernetes are held against its published schemas, where `kubernetes-validate` is
installed; KubeRay's own kind by the fields of its types, and its pods as pods.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from dfqonnx.cli.app import app
from dfqonnx.config.sweep_file import read_sweep

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "pipelines" / "deploy"
FILES = sorted(FOLDER.glob("*.yaml"))
RAY_JOB = {  # KubeRay, ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go
    "spec": {
        "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate",
        "metadata", "clusterSelector", "submitterConfig", "entrypoint", "runtimeEnvYAML", "jobId",
        "submissionMode", "entrypointResources", "entrypointNumCpus", "entrypointNumGpus",
        "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend",
    },
    "cluster": {
        "suspend", "autoscalerOptions", "headServiceAnnotations", "enableInTreeAutoscaling",
        "headGroupSpec", "rayVersion", "workerGroupSpecs",
    },
    "head": {"template", "headService", "enableIngress", "rayStartParams", "serviceType"},
    "workers": {
        "suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds",
        "rayStartParams", "template", "scaleStrategy", "numOfHosts",
    },
}  # fmt: skip


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def find(kind: str) -> dict[str, Any]:
    (found,) = (d for path in FILES for d in documents(path) if d["kind"] == kind)
    return found


def pods() -> Iterator[dict[str, Any]]:
    """Every pod that the manifests make, as a pod of its own."""
    cluster = find("RayJob")["spec"]["rayClusterSpec"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    for template in (find("Job")["spec"]["template"], *(group["template"] for group in groups)):
        metadata = {"name": "one", **template["metadata"]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("version", ["1.31", "1.34"])
def test_manifests_keep_to_the_schemas_of_kubernetes(version: str) -> None:
    validator = pytest.importorskip(
        "kubernetes_validate", reason="not installed: pip install kubernetes-validate"
    )
    plain = [d for path in FILES for d in documents(path) if d["kind"] != "RayJob"]
    assert {d["kind"] for d in plain} == {"Job", "PersistentVolumeClaim", "ConfigMap"}
    for document in (*plain, *pods()):
        validator.validate(document, version, strict=True)
    broken = {**find("Job"), "spec": {**find("Job")["spec"], "backofLimit": 3}}
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, version, strict=True)


def test_the_ray_job_has_fields_that_kuberay_has() -> None:
    job = find("RayJob")
    assert job["apiVersion"] == "ray.io/v1"
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert set(spec) <= RAY_JOB["spec"]
    assert set(cluster) <= RAY_JOB["cluster"]
    assert set(cluster["headGroupSpec"]) <= RAY_JOB["head"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= RAY_JOB["workers"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins


def test_what_the_pods_run_is_a_command_line_of_ours(tmp_path: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    (container,) = find("Job")["spec"]["template"]["spec"]["containers"]
    program, *entry = shlex.split(find("RayJob")["spec"]["entrypoint"])
    assert program == "dfqonnx"
    for command, *words in (container["args"], entry):
        options = {flag for option in known[command].params for flag in option.opts}
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= options
    file = tmp_path / "sweep.yaml"
    file.write_text(find("ConfigMap")["data"]["sweep.yaml"], encoding="utf-8")
    plan = read_sweep(file, find=lambda pattern: [pattern.replace("*", "net")])
    assert [task.bits for task in plan.tasks] == ["w8a8", "w4a8"]
    assert plan.retries == 3


def test_no_pod_is_root_or_may_become_it() -> None:
    found = list(pods())
    assert len(found) == 3
    for pod in found:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"]
