"""The fields of KubeRay's ray.io/v1 resources that this project uses, unknown ones refused.

Source: KubeRay CRD API reference 1.7.1, docs.ray.io/en/master/kuberay/references/api.html.
Pod templates are left to the schema of Kubernetes itself.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A record that refuses fields which KubeRay does not have."""

    model_config = ConfigDict(extra="forbid")


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int = Field(ge=1)
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] = "Default"


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]
    secretName: str


class RedisCredential(Strict):
    valueFrom: dict[str, Any]


class GcsFaultToleranceOptions(Strict):
    redisAddress: str
    redisPassword: RedisCredential
    externalStorageNamespace: str | None = None


class HeadGroup(Strict):
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(Strict):
    groupName: str
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class ClusterSpec(Strict):
    rayVersion: str
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    authOptions: AuthOptions
    gcsFaultToleranceOptions: GcsFaultToleranceOptions | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class JobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    backoffLimit: int
    activeDeadlineSeconds: int
    rayClusterSpec: ClusterSpec


class UpgradeStrategy(Strict):
    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]


class ServiceSpec(Strict):
    upgradeStrategy: UpgradeStrategy
    excludeHeadPodFromServeSvc: bool
    serveConfigV2: str
    rayClusterConfig: ClusterSpec


class Resource(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster", "RayJob", "RayService"]
    metadata: dict[str, Any]
    spec: dict[str, Any]


SPECS = {"RayCluster": ClusterSpec, "RayJob": JobSpec, "RayService": ServiceSpec}


def read_cluster(document: dict[str, Any]) -> ClusterSpec:
    """Return the cluster in a Ray resource; ValidationError names a field that is off."""
    resource = Resource.model_validate(document)
    spec = SPECS[resource.kind].model_validate(resource.spec)
    if isinstance(spec, JobSpec):
        return spec.rayClusterSpec
    return spec.rayClusterConfig if isinstance(spec, ServiceSpec) else spec
