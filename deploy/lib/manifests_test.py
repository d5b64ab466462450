#!/usr/bin/env python3
"""Whether manifests.py finds what it is for: each rule, on a rendered overlay that was spoilt in one place.

    manifests_test.py KUBECTL
"""

import copy
import os
import sys
import unittest

import manifests

KUBECTL = sys.argv.pop(1)
POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
# Document, path, what is put there (None: taken away), and what is said of it.
SPOILT = [
    ("Deployment rag-api", "spec.replicas", 3, "from its autoscaler"),
    ("Deployment rag-api-worker", "spec.replicas", 1, "neither two replicas nor an autoscaler"),
    ("Deployment rag-api", "spec.strategy.rollingUpdate.maxUnavailable", 1, "maxUnavailable is 1"),
    ("Deployment rag-api", f"{POD}.terminationGracePeriodSeconds", 30, "is 30 instead of 60"),
    ("Deployment rag-api", f"{POD}.enableServiceLinks", True, "enableServiceLinks is True"),
    ("Deployment rag-api", f"{POD}.automountServiceAccountToken", None, "automountServiceAccountToken is None"),
    ("Deployment rag-api", f"{POD}.securityContext.runAsNonRoot", False, "runAsNonRoot is False"),
    ("Deployment rag-api", f"{POD}.topologySpreadConstraints", None, "not spread"),
    ("Deployment rag-api", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False, "readOnlyRootFilesystem"),
    ("Deployment rag-api", f"{CONTAINER}.resources.limits.memory", None, "no limits of memory"),
    ("Deployment rag-api", f"{CONTAINER}.image", "myregistry/rag-api:latest", "has no version"),
    ("Deployment rag-api", f"{CONTAINER}.readinessProbe.httpGet.path", "/health", "readinessProbe.httpGet is"),
    ("Deployment rag-api", f"{CONTAINER}.lifecycle", None, "preStop.sleep.seconds is None"),
    ("Deployment rag-api", f"{CONTAINER}.args", ["serve"], "args is"),
    ("Deployment rag-api", f"{CONTAINER}.restart", "x", "1.37: Additional properties are not allowed"),
    ("Deployment rag-api-worker", f"{CONTAINER}.startupProbe", None, "no startupProbe"),
    ("Deployment rag-api-worker", f"{CONTAINER}.env.0.name", "RAG_LISTN", "RAG_LISTN is no setting"),
    ("Deployment rag-api-worker", f"{CONTAINER}.env.2.valueFrom.configMapKeyRef.key", "url", "has no url"),
    ("Deployment rag-api", f"{CONTAINER}.env.2.valueFrom.secretKeyRef.key", "admin", "the README does not name"),
    ("Deployment rag-api", f"{CONTAINER}.env.2.valueFrom.secretKeyRef.name", "other", "comes from the secret other"),
    ("ConfigMap rag-config", "data.vector-db-url", None, "has no vector-db-url"),
    ("ConfigMap rag-config", "kind", "Secret", "a secret"),
    ("Service rag-api", "spec.ports.0.targetPort", 80, "targetPort is 80"),
    ("Ingress rag-api", "spec.tls", None, "a host without TLS"),
    ("HorizontalPodAutoscaler rag-api-hpa", "spec.maxReplicas", 20, "not from 2 to 10"),
    ("HorizontalPodAutoscaler rag-api-worker-hpa", "spec.metrics.0.external.metric.name", "x", "no metric x"),
    ("PodDisruptionBudget rag-api", "spec.selector.matchLabels.app", "x", "no PodDisruptionBudget selects it"),
    ("NetworkPolicy rag-api-worker", "spec.podSelector.matchLabels.app", "x", "no NetworkPolicy selects it"),
]


def spoil(documents, name, path, value):
    """A copy in which one place of one document is another."""
    documents = copy.deepcopy(documents)
    place, _, last = path.rpartition(".")
    target = next(document for document in documents if manifests.name_of(document) == name)
    target = manifests.at(target, place) if place else target
    if value is None:
        del target[last]
    else:
        target[last] = value
    return documents


class Rules(unittest.TestCase):
    def test_each_rule_finds_what_it_is_for(self):
        overlays = os.path.join(manifests.ROOT, "deploy/kubernetes/overlays")
        production, load_metrics = (manifests.render(KUBECTL, os.path.join(overlays, name))
                                    for name in ("production", "load-metrics"))
        settings, metrics = manifests.known_settings(), manifests.known_metrics()
        self.assertEqual(list(manifests.check_rendered(production, settings, metrics)), [])
        for name, path, value, says in SPOILT:
            with self.subTest(name=name, path=path):
                rendered = load_metrics if "worker-hpa" in name else production
                found = manifests.check_rendered(spoil(rendered, name, path, value), settings, metrics)
                self.assertTrue(any(says in problem for problem in found), f"nobody said {says!r}")


if __name__ == "__main__":
    unittest.main()
