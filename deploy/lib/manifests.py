#!/usr/bin/env python3
"""Checks what a fleet is deployed by, without a cluster and without a network.

    manifests.py KUBECTL DOCKER_COMPOSE

Every kustomization below deploy/kubernetes is rendered with KUBECTL, validated against Kubernetes' schemas of the oldest
and of the newest version meant, and held against the rules of this file; deploy/compose is read by DOCKER_COMPOSE and
held against those that it shares. Prints each problem, and fails if there is one. Needs the packages of
deploy/requirements-manifests.txt.
"""

import json
import os
import re
import subprocess
import sys

import kubernetes_validate
import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VERSIONS = ["1.30", "1.37"]
PROBES = ["startupProbe", "livenessProbe", "readinessProbe"]
# What the API's Deployment promises to those who know rag-api from elsewhere: path and value.
CONTRACT = {
    "spec.template.spec.containers.0.name": "rag-api",
    "spec.template.spec.containers.0.ports.0.containerPort": 8000,
    "spec.template.spec.containers.0.args": ["serve", "--profile", "production", "--no-worker"],
    "spec.template.spec.containers.0.livenessProbe.httpGet": {"path": "/health", "port": 8000},
    "spec.template.spec.containers.0.livenessProbe.initialDelaySeconds": 10,
    "spec.template.spec.containers.0.livenessProbe.periodSeconds": 10,
    "spec.template.spec.containers.0.readinessProbe.httpGet": {"path": "/ready", "port": 8000},
    "spec.template.spec.containers.0.readinessProbe.initialDelaySeconds": 5,
    "spec.template.spec.containers.0.readinessProbe.periodSeconds": 5,
    "spec.template.spec.containers.0.resources.requests": {"cpu": "250m", "memory": "512Mi"},
    "spec.template.spec.containers.0.resources.limits": {"cpu": "1", "memory": "2Gi"},
    "spec.template.spec.containers.0.lifecycle.preStop.sleep.seconds": 5,
}
# What every Deployment has, so that a rollout and a lost node lose no request.
DEPLOYMENT = {
    "spec.strategy.rollingUpdate.maxUnavailable": 0,
    "spec.template.spec.terminationGracePeriodSeconds": 60,
}
# What every pod has.
POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext.runAsNonRoot": True,
    "securityContext.seccompProfile.type": "RuntimeDefault",
}
CONTAINER = {
    "securityContext.allowPrivilegeEscalation": False,
    "securityContext.readOnlyRootFilesystem": True,
    "securityContext.capabilities.drop": ["ALL"],
}
# Variables that the API has and the worker has not.
API_ALONE = {"RAG_LISTEN", "RAG_ADMIN_API_KEY", "RAG_TRUSTED_PROXIES"}


def at(value, path):
    """The value at a path of names and indices, None where there is none."""
    for part in path.split("."):
        if isinstance(value, list):
            value = value[int(part)] if int(part) < len(value) else None
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def name_of(document):
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def pod_of(workload):
    return workload["spec"]["template"]["spec"]


def differences(value, expected):
    """Where a value is not what a table of paths says."""
    for path, wanted in expected.items():
        found = at(value, path)
        if found != wanted or type(found) is not type(wanted):
            yield f"{path} is {found!r} instead of {wanted!r}"


def check_pods(documents):
    """Pods that are not root, cannot write, and know nothing of the cluster."""
    for workload in of_kind(documents, "Deployment", "Job"):
        pod = pod_of(workload)
        problems = list(differences(pod, POD))
        for container in pod["containers"]:
            problems += differences(container, CONTAINER)
            problems += (f"no {group} of {resource}" for group in ("requests", "limits") for resource in ("cpu", "memory")
                         if at(container, f"resources.{group}.{resource}") is None)
            if not re.search(r"(:v?\d[\w.]*|@sha256:[0-9a-f]{64})$", container["image"]):
                problems.append(f"the image {container['image']} has no version")
        yield from (f"{name_of(workload)}: {problem}" for problem in problems)


def check_deployments(documents):
    """Deployments that lose no request, with a number of replicas that nobody resets."""
    scaled = {hpa["spec"]["scaleTargetRef"]["name"]: hpa for hpa in of_kind(documents, "HorizontalPodAutoscaler")}
    for deployment in of_kind(documents, "Deployment"):
        name, problems = deployment["metadata"]["name"], list(differences(deployment, DEPLOYMENT))
        container = pod_of(deployment)["containers"][0]
        ports = [port["containerPort"] for port in container["ports"]]
        problems += (f"no {probe} on a port of its own" for probe in PROBES
                     if at(container, f"{probe}.httpGet.port") not in ports)
        if len(pod_of(deployment).get("topologySpreadConstraints", [])) < 2:
            problems.append("not spread over nodes and zones")
        replicas = deployment["spec"].get("replicas")
        if name in scaled and replicas is not None:
            problems.append("has replicas, which each apply would take from its autoscaler")
        if name not in scaled and (replicas or 1) < 2:
            problems.append("has neither two replicas nor an autoscaler")
        for kind, path in ("PodDisruptionBudget", "spec.selector"), ("NetworkPolicy", "spec.podSelector"):
            selected = [at(document, f"{path}.matchLabels") for document in of_kind(documents, kind)]
            if deployment["spec"]["selector"]["matchLabels"] not in selected:
                problems.append(f"no {kind} selects it")
        yield from (f"{name_of(deployment)}: {problem}" for problem in problems)


def check_contract(documents):
    """The names and numbers that others rely on."""
    by_name = {name_of(document): document for document in documents}
    api, worker = by_name.get("Deployment rag-api"), by_name.get("Deployment rag-api-worker")
    if api is None or worker is None:
        yield "there is no API or no worker"
        return
    yield from (f"Deployment rag-api: {problem}" for problem in differences(api, CONTRACT))
    expected = {
        "Service rag-api": {"spec.ports.0.port": 80, "spec.ports.0.targetPort": 8000, "spec.selector.app": "rag-api"},
        "HorizontalPodAutoscaler rag-api-hpa": {"spec.scaleTargetRef.name": "rag-api"},
        "ServiceAccount rag-api": {"automountServiceAccountToken": False},
        "Ingress rag-api": {"spec.rules.0.http.paths.0.backend.service.name": "rag-api"},
    }
    for name, table in expected.items():
        yield from (f"{name}: {problem}" for problem in differences(by_name.get(name), table))
    ingress = by_name.get("Ingress rag-api")
    if [rule["host"] for rule in at(ingress, "spec.rules") or []] != at(ingress, "spec.tls.0.hosts"):
        yield "Ingress rag-api: a host without TLS"
    ours, theirs = (variables(pod_of(workload)) for workload in (api, worker))
    yield from (f"{name} is not the same for the API and the worker" for name in sorted(ours.keys() - API_ALONE)
                if ours[name] != theirs.get(name))


def variables(pod):
    return {variable["name"]: variable for variable in pod["containers"][0]["env"]}


def check_references(documents, settings):
    """Variables that rag-api knows, from keys that are there; no secret in the manifests."""
    maps = {document["metadata"]["name"]: document["data"] for document in of_kind(documents, "ConfigMap")}
    with open(os.path.join(ROOT, "deploy/README.md"), encoding="utf-8") as file:
        readme = file.read()
    yield from (f"{name_of(document)}: a secret" for document in of_kind(documents, "Secret"))
    for workload in of_kind(documents, "Deployment", "Job"):
        for name, variable in variables(pod_of(workload)).items():
            problem = unknown_variable(name, settings) or unknown_source(variable, maps, readme)
            if problem:
                yield f"{name_of(workload)}: {name} {problem}"


def unknown_variable(name, settings):
    if name.startswith("RAG_") and name.removesuffix("_FILE") not in settings:
        return "is no setting of config/default.toml"
    return None


def unknown_source(variable, maps, readme):
    """What is wrong with where a value comes from."""
    from_map, from_secret = at(variable, "valueFrom.configMapKeyRef"), at(variable, "valueFrom.secretKeyRef")
    if from_map and not from_map.get("optional") and from_map["key"] not in maps.get(from_map["name"], {}):
        return f"comes from {from_map['name']}, which has no {from_map['key']}"
    if from_secret and from_secret["name"] != "rag-secrets":
        return f"comes from the secret {from_secret['name']}"
    if from_secret and f"`{from_secret['key']}`" not in readme:
        return f"comes from {from_secret['key']}, which the README does not name"
    if from_secret is None and re.search("KEY|PASSWORD|DATABASE_URL|REDIS_URL", variable["name"]):
        return "is a secret, and comes from none"
    return None


def check_autoscalers(documents, metrics):
    """Autoscalers within bounds, by metrics that rag-api has."""
    for hpa in of_kind(documents, "HorizontalPodAutoscaler"):
        spec = hpa["spec"]
        if not 2 <= spec["minReplicas"] <= spec["maxReplicas"] <= 10:
            yield f"{name_of(hpa)}: not from 2 to 10"
        for metric in spec["metrics"]:
            name = at(metric, "pods.metric.name") or at(metric, "external.metric.name")
            if name and name not in metrics:
                yield f"{name_of(hpa)}: there is no metric {name}"
            if metric["type"] == "Resource" and at(metric, "resource.target.averageUtilization") != 70:
                yield f"{name_of(hpa)}: not at 70 % of the processor time asked for"


def check_schemas(documents):
    for document in documents:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{name_of(document)}: {version}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError:
                yield f"{name_of(document)}: Kubernetes {version} has no {document['apiVersion']} of this kind"


def check_rendered(documents, settings, metrics):
    """Everything that is wrong with the documents of a kustomization."""
    yield from check_pods(documents)
    yield from check_references(documents, settings)
    if of_kind(documents, "Deployment"):
        yield from check_deployments(documents)
        yield from check_contract(documents)
        yield from check_autoscalers(documents, metrics)
    # Last, because it takes longest and whoever looks for one problem may stop before.
    yield from check_schemas(documents)


def check_services(services, settings):
    """What compose's services must have."""
    for name, service in services.items():
        if not re.search(r":v?\d[\w.-]*$", service["image"]) and service["image"] != "rag-api:local":
            yield f"{name}: the image {service['image']} has no version"
        if not service.get("healthcheck") and not service["image"].startswith("rag-api:"):
            yield f"{name}: no health check"
        if "mem_limit" not in service:
            yield f"{name}: no limit of memory"
        if name != "proxy" and service.get("ports"):
            yield f"{name}: a port outside"
        for variable in service.get("environment", {}):
            if problem := unknown_variable(variable, settings):
                yield f"{name}: {variable} {problem}"
    if at(services, "api.deploy.replicas") != 2:
        yield "api: not two replicas"
    for name in "api", "worker":
        table = {"read_only": True, "cap_drop": ["ALL"], "depends_on.migrate.condition": "service_completed_successfully"}
        yield from (f"{name}: {problem}" for problem in differences(services[name], table))


def known_settings():
    """The variables of the settings."""
    with open(os.path.join(ROOT, "config/default.toml"), encoding="utf-8") as file:
        return {f"RAG_{name.upper()}" for name in re.findall(r"^([a-z_0-9]+) = ", file.read(), re.MULTILINE)}


def known_metrics():
    with open(os.path.join(ROOT, "src/telemetry/metrics.rs"), encoding="utf-8") as file:
        return set(re.findall(r'= "(rag_[a-z_]+)"', file.read()))


def kustomizations():
    found = os.walk(os.path.join(ROOT, "deploy/kubernetes"))
    return sorted(folder for folder, _, files in found if "kustomization.yaml" in files)


def output(command, **options):
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


def render(kubectl, folder):
    return [document for document in yaml.safe_load_all(output([kubectl, "kustomize", folder])) if document]


def main():
    kubectl, compose = sys.argv[1:]
    settings, metrics = known_settings(), known_metrics()
    problems = []
    for folder in kustomizations():
        documents = render(kubectl, folder)
        found = sorted(set(check_rendered(documents, settings, metrics)))
        problems += (f"{os.path.relpath(folder, ROOT)}: {problem}" for problem in found)
        print(f"{os.path.relpath(folder, ROOT)}: {len(documents)} documents", file=sys.stderr)
    # Its secrets are made at the first start, and not looked at here.
    place = os.path.join(ROOT, "deploy/compose")
    arguments = ["--project-directory", place, "config", "--no-env-resolution", "--format", "json"]
    services = json.loads(output([compose, *arguments]))["services"]
    problems += (f"deploy/compose: {problem}" for problem in check_services(services, settings))
    print(f"deploy/compose: {len(services)} services", file=sys.stderr)
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
