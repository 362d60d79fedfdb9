"""The manifests for Kubernetes, against its schemas, the images, the settings and the API."""

import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from app.cli.commands import cli
from app.embedded.programs import API_STOP, WORKER_STOP
from app.main import create_app
from app.settings import SERVED_BY, Settings
from tests.images import COMPOSE, DOCKER, command_of, instructions

Manifest = dict[str, Any]
VERSION = "1.32"
KUBERNETES = DOCKER / "kubernetes"
OVERLAYS = ("overlays/keda", "overlays/hpa")
DEPLOYMENTS = (*OVERLAYS, "migrate")
# What is read by kustomize or by people's own charts, and not by the cluster.
NO_MANIFESTS = {"kustomization.yaml", "adapter.yaml"}
FILES = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name not in NO_MANIFESTS)
# Not a setting: where settings are read from.
SECRETS_DIRECTORY = "MEMAUDIT_SECRETS_DIRECTORY"

needs_kustomize = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which builds kustomizations, is not on PATH"
)


@cache
def built(directory: str) -> tuple[Manifest, ...]:
    """Everything that `kubectl apply -k` would send."""
    command = ["kubectl", "kustomize", KUBERNETES / directory]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def written(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pods(manifests: tuple[Manifest, ...] | list[Manifest]) -> Iterator[Manifest]:
    for each in manifests:
        if each["kind"] in {"Deployment", "Job"}:
            yield each["spec"]["template"]


def check_schema(manifest: Manifest) -> None:
    if manifest["apiVersion"].startswith("keda.sh/"):
        check_scaled_object(manifest)
    else:
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def check_scaled_object(manifest: Manifest) -> None:
    """The fields of KEDA's ScaledObject (v1alpha1) and its Prometheus scaler, as far as they are used."""
    assert (manifest["apiVersion"], manifest["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = manifest["spec"]
    numbers = {"minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod"}
    assert set(spec) == {"scaleTargetRef", "triggers", *numbers}
    assert all(isinstance(spec[name], int) for name in numbers)
    assert set(spec["scaleTargetRef"]) == {"name"}
    for trigger in spec["triggers"]:
        assert set(trigger) == {"type", "metricType", "metadata"}
        assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
        known = {"serverAddress", "query", "threshold", "activationThreshold"}
        assert set(trigger["metadata"]) == known
        assert all(isinstance(value, str) for value in trigger["metadata"].values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_manifests_are_valid_as_they_are_written(path: Path) -> None:
    for manifest in written(path):
        check_schema(manifest)


@needs_kustomize
@pytest.mark.parametrize("directory", DEPLOYMENTS)
def test_what_is_built_is_valid(directory: str) -> None:
    for manifest in built(directory):
        check_schema(manifest)


def test_a_misspelt_field_is_found() -> None:
    (deployment, *_) = written(KUBERNETES / "base" / "api.yaml")
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError):
        check_schema(deployment)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_pods_are_restricted(path: Path) -> None:
    for template in pods(written(path)):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
        # Nothing of the node, and no secret in the environment, which ends up in dumps and children.
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        assert not [each for each in container.get("env", []) if "valueFrom" in each]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_users_and_commands_are_those_of_the_images(path: Path) -> None:
    for template in pods(written(path)):
        (container,) = template["spec"]["containers"]
        dockerfile = f"{container['image'].removeprefix('memaudit-')}.Dockerfile"
        assert str(template["spec"]["securityContext"]["runAsUser"]) == instructions(dockerfile, "USER")[-1]
        assert container["args"] == command_of(container["name"])
        home = dict(line.split("=", 1) for line in instructions(dockerfile, "ENV"))["MEMAUDIT_HOME"]
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {home, "/tmp"}


@needs_kustomize
def test_the_migration_is_patched_as_the_page_says(tmp_path: Path) -> None:
    page = (DOCKER.parent / "docs" / "operations.md").read_text()
    patches = textwrap.dedent(page.partition("  ```yaml\n")[2].partition("  ```")[0])
    assert "--schema-only" in patches
    migrate = os.path.relpath(KUBERNETES / "migrate", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{migrate}]\n{patches}")
    (job,) = built(str(tmp_path))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, command, *options = container["args"]
    parsed = get_command(cli).commands[command].make_context(command, list(options))  # type: ignore[attr-defined]
    assert (program, parsed.params["schema_only"]) == ("memaudit", True)


@needs_kustomize
@pytest.mark.parametrize("directory", OVERLAYS)
def test_workers_of_every_class_are_started_and_only_those_with_a_gpu_ask_for_one(directory: str) -> None:
    queues = set()
    for name, deployment in of_kind(built(directory), "Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        program, command, *options = container["args"]
        assert program == "memaudit"
        # As the command line itself reads it.
        parsed = get_command(cli).commands[command].make_context(command, list(options))  # type: ignore[attr-defined]
        if command != "worker":
            continue
        queues.add(parsed.params["queue"])
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        assert gpus == (1 if parsed.params["queue"] == "gpu" else 0), name
        assert ("nodeSelector" in deployment["spec"]["template"]["spec"]) == bool(gpus)
        assert parsed.params["concurrency"] is None  # one process a GPU
    assert queues == set(SERVED_BY)


@needs_kustomize
@pytest.mark.parametrize("directory", DEPLOYMENTS)
def test_every_variable_is_a_setting(directory: str) -> None:
    known = {f"MEMAUDIT_{name.upper()}" for name in Settings.model_fields} | {SECRETS_DIRECTORY}
    manifests = built(directory)
    for config in of_kind(manifests, "ConfigMap").values():
        assert set(config["data"]) <= known
        Settings(**{k.removeprefix("MEMAUDIT_").lower(): v for k, v in config["data"].items()})
    for template in pods(manifests):
        for container in template["spec"]["containers"]:
            assert {each["name"] for each in container.get("env", [])} <= known
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in of_kind(manifests, "ConfigMap")


@needs_kustomize
@pytest.mark.parametrize("directory", DEPLOYMENTS)
def test_secrets_are_files_where_the_settings_look_for_them(directory: str) -> None:
    manifests = built(directory)
    for template in pods(manifests):
        (container,) = template["spec"]["containers"]
        given = {each["name"]: each["value"] for each in container.get("env", [])}
        for source in container.get("envFrom", []):
            given |= of_kind(manifests, "ConfigMap")[source["configMapRef"]["name"]]["data"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["secrets"]["mountPath"] == given[SECRETS_DIRECTORY]
        assert all(mount["readOnly"] for name, mount in mounts.items() if name in {"secrets", "authorities"})
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert set(mounts) == set(volumes)
        items = volumes["secrets"]["secret"].get("items")
        if items is not None:
            assert [each["path"] for each in items] == COMPOSE["services"][container["name"]]["secrets"]


def test_the_api_is_replaced_without_a_gap() -> None:
    deployment, service, budget = written(KUBERNETES / "base" / "api.yaml")
    spec = deployment["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert budget["spec"]["maxUnavailable"] == 1
    labels = spec["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == labels
    (container,) = spec["template"]["spec"]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("readiness", "liveness")}
    assert probes == {"readiness": "/readyz", "liveness": "/healthz"}
    assert create_app(Settings()).openapi()["paths"].keys() >= set(probes.values())
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    stop = sum(seconds for _, seconds in API_STOP)
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > pause + stop


def test_a_worker_has_time_to_hand_its_job_back() -> None:
    (deployment,) = written(KUBERNETES / "workers" / "base" / "worker.yaml")
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > sum(seconds for _, seconds in WORKER_STOP)
    # The autoscaler says how many there are; an apply must not take that back.
    assert "replicas" not in deployment["spec"]


@needs_kustomize
@pytest.mark.parametrize("directory", OVERLAYS)
def test_each_class_of_workers_is_scaled_by_its_own_queue(directory: str) -> None:
    manifests = built(directory)
    scaled = {}
    for each in of_kind(manifests, "ScaledObject").values():
        queries = [trigger["metadata"]["query"] for trigger in each["spec"]["triggers"]]
        scaled[each["spec"]["scaleTargetRef"]["name"]] = {query.split('"')[1] for query in queries}
    for each in of_kind(manifests, "HorizontalPodAutoscaler").values():
        metrics = [metric["external"]["metric"] for metric in each["spec"]["metrics"]]
        queues = {metric["selector"]["matchLabels"]["queue"] for metric in metrics}
        scaled[each["spec"]["scaleTargetRef"]["name"]] = queues
    workers = {
        name: {deployment["spec"]["template"]["spec"]["containers"][0]["args"][-1]}
        for name, deployment in of_kind(manifests, "Deployment").items()
        if name.startswith("memaudit-worker")
    }
    assert scaled == workers


@needs_kustomize
@pytest.mark.parametrize("directory", OVERLAYS)
def test_nobody_talks_to_anybody_but_as_said(directory: str) -> None:
    policies = of_kind(built(directory), "NetworkPolicy")
    nobody = policies.pop("nobody")["spec"]
    assert nobody == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def reached(component: str) -> set[int]:
        labels = {"app.kubernetes.io/part-of": "memaudit", "app.kubernetes.io/name": f"memaudit-{component}"}
        return {
            port["port"]
            for policy in policies.values()
            if policy["spec"]["podSelector"].get("matchLabels", {"": ""}).items() <= labels.items()
            for rule in policy["spec"].get("egress", [])
            for port in rule["ports"]
        }

    assert reached("migrate") == {53, 5432, 6379, 4318}
    assert reached("api") == reached("worker") == {53, 5432, 6379, 4318, 443}
    # No rule may lead to everywhere, nor to the addresses that a cloud tells its machines secrets at.
    for policy in policies.values():
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                assert "169.254.0.0/16" in peer.get("ipBlock", {"except": ["169.254.0.0/16"]})["except"]
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"]
    (api,) = policies["clients"]["spec"]["ingress"]
    assert {port["port"] for port in api["ports"]} == {8000}


@needs_kustomize
@pytest.mark.parametrize("directory", OVERLAYS)
def test_what_needs_no_key_stays_inside(directory: str) -> None:
    (ingress,) = of_kind(built(directory), "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    backends = {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
    assert backends == dict.fromkeys(("/metrics", "/healthz", "/readyz"), "nothing") | {"/": "memaudit-api"}
    services = of_kind(built(directory), "Service")
    names = {template["metadata"]["labels"]["app.kubernetes.io/name"] for template in pods(built(directory))}
    assert services["nothing"]["spec"]["selector"]["app.kubernetes.io/name"] not in names
