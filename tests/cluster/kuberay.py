"""KubeRay's custom resources as far as we use them, as a JSON schema: names and kinds of the fields of its API v1 (RayJobSpec,
RayClusterSpec, HeadGroupSpec, WorkerGroupSpec), written down here because no package on PyPI carries its CRDs. Pods are checked
by Kubernetes' own schema."""

from __future__ import annotations

from typing import Any

INTEGER, BOOLEAN, TEXT = {"type": "integer"}, {"type": "boolean"}, {"type": "string"}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT}
ANY: dict[str, Any] = {"type": "object"}


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_GROUP = {"rayStartParams": TEXTS, "template": ANY}
_HEAD = _closed({**_GROUP, "serviceType": TEXT, "headService": ANY, "enableIngress": BOOLEAN}, "template")
_WORKERS = _closed(
    {
        **_GROUP, "groupName": TEXT, "replicas": INTEGER, "minReplicas": INTEGER, "maxReplicas": INTEGER, "numOfHosts": INTEGER, "scaleStrategy": ANY,
        "idleTimeoutSeconds": INTEGER,
    },
    "groupName", "template", "minReplicas", "maxReplicas",
)  # fmt: skip
_CLUSTER = _closed(
    {
        "headGroupSpec": _HEAD, "workerGroupSpecs": {"type": "array", "items": _WORKERS}, "rayVersion": TEXT, "enableInTreeAutoscaling": BOOLEAN,
        "autoscalerOptions": ANY, "headServiceAnnotations": TEXTS, "suspend": BOOLEAN,
        "authOptions": _closed({"mode": {"enum": ["token", "disabled"]}}, "mode"),
    },
    "headGroupSpec",
)  # fmt: skip
_JOB = _closed(
    {
        "activeDeadlineSeconds": INTEGER, "backoffLimit": INTEGER, "rayClusterSpec": _CLUSTER, "submitterPodTemplate": ANY, "metadata": TEXTS,
        "clusterSelector": TEXTS, "submitterConfig": ANY, "managedBy": TEXT, "deletionStrategy": ANY, "entrypoint": TEXT, "runtimeEnvYAML": TEXT,
        "jobId": TEXT, "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]}, "entrypointResources": TEXT,
        "entrypointNumCpus": {"type": "number"}, "entrypointNumGpus": {"type": "number"}, "ttlSecondsAfterFinished": INTEGER,
        "shutdownAfterJobFinishes": BOOLEAN, "suspend": BOOLEAN,
    },
)  # fmt: skip
RAY_JOB = _closed({"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayJob"}, "metadata": ANY, "spec": _JOB}, "apiVersion", "kind", "metadata", "spec")
