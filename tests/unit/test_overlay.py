"""What a restore changes for another environment: classes, images, host names, replicas; and what it cleans of finalizers and definitions."""

from decimal import Decimal

import pytest

from becalm.kube.finalizers import uncleared
from becalm.kube.overlay import map_hosts, map_registries, map_storage_classes, mapped_host, mapped_image, set_replicas
from becalm.kube.quantities import amount, written
from becalm.kube.resources import strip
from becalm.testing.manifests import a_claim, a_definition, a_deployment, an_object


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("old.example.org/shop/web:1", "new.example.org/shop/web:1"),
        ("old.example.org/base/web@sha256:ab", "mirror.example.org/web@sha256:ab"),
        ("old.example.org.evil/web:1", "old.example.org.evil/web:1"),
        ("nginx:1.29", "hub.example.org/library/nginx:1.29"),
        ("grafana/grafana", "hub.example.org/grafana/grafana"),
        ("docker.io/library/nginx", "hub.example.org/library/nginx"),
        ("localhost/web", "localhost/web"),
        ("quay.io/web", "quay.io/web"),
    ],
)
def test_an_image_is_taken_from_the_mapped_registry(image: str, expected: str) -> None:
    """By whole segments; the longest source decides; an image without a registry is Docker's."""
    mapping = {"old.example.org": "new.example.org", "old.example.org/base": "mirror.example.org", "docker.io": "hub.example.org"}

    assert mapped_image(image, mapping) == expected


def test_every_container_and_template_gets_its_image_from_there() -> None:
    """Containers, init and ephemeral ones, volumes that are images; in pods, templates, and the templates of templates."""
    container = {"name": "main", "image": "a.io/x"}

    def pod() -> dict:
        volumes = [{"name": "m", "image": {"reference": "a.io/m"}}]
        return {
            "containers": [dict(container)],
            "initContainers": [dict(container)],
            "ephemeralContainers": [dict(container)],
            "volumes": volumes,
        }

    manifests = (
        an_object("v1", "Pod", "p", spec=pod()),
        an_object("apps/v1", "DaemonSet", "d", spec={"template": {"spec": pod()}}),
        an_object("batch/v1", "CronJob", "c", spec={"jobTemplate": {"spec": {"template": {"spec": pod()}}}}),
    )
    for manifest in manifests:
        map_registries(manifest, {"a.io": "b.io"})

    assert ["a.io" in str(manifest) for manifest in manifests] == [False] * 3
    assert [str(manifest).count("b.io/") for manifest in manifests] == [4] * 3


def test_storage_classes_are_mapped_in_claims_volumes_and_templates() -> None:
    """The old annotation too; other classes stay."""
    claim, other = a_claim(storage_class="fast"), a_claim(storage_class="slow")
    claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"] = "fast"
    templates = [{"metadata": {"name": "data"}, "spec": {"storageClassName": "fast"}}]
    ephemeral = {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}
    workload = an_object(
        "apps/v1", "StatefulSet", "db", spec={"volumeClaimTemplates": templates, "template": {"spec": {"volumes": [ephemeral]}}}
    )
    for manifest in (claim, other, workload):
        map_storage_classes(manifest, {"fast": "standard"})

    assert claim["spec"]["storageClassName"] == "standard"
    assert claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"] == "standard"
    assert other["spec"]["storageClassName"] == "slow"
    assert "fast" not in str(workload)


def test_hosts_are_mapped_by_whole_labels_of_their_domain() -> None:
    """`shop.example.org` and what is below it; never what only ends with the same letters."""
    mapping = {"shop.example.org": "test.example.net"}
    ingress = an_object(
        "networking.k8s.io/v1",
        "Ingress",
        "web",
        spec={"rules": [{"host": "shop.example.org"}, {}], "tls": [{"hosts": ["*.shop.example.org", "workshop.example.org"]}]},
    )
    map_hosts(ingress, mapping)
    config = an_object("v1", "ConfigMap", "c", spec={"rules": [{"host": "shop.example.org"}]})
    map_hosts(config, mapping)

    assert ingress["spec"]["rules"] == [{"host": "test.example.net"}, {}]
    assert ingress["spec"]["tls"] == [{"hosts": ["*.test.example.net", "workshop.example.org"]}]
    assert config["spec"]["rules"] == [{"host": "shop.example.org"}]
    assert mapped_host("a.b", {"b": "x", "a.b": "y"}) == "y"


def test_replicas_are_set_where_a_workload_has_them() -> None:
    """A kind that is not the cluster's own only where it is named and has the field."""
    deployment, daemon = a_deployment(), an_object("apps/v1", "DaemonSet", "d", spec={})
    custom = an_object("example.org/v1", "Database", "db", spec={"replicas": 3})
    for manifest in (deployment, daemon, custom):
        set_replicas(manifest, 0, named=False)
    unnamed = custom["spec"]["replicas"]
    set_replicas(custom, 1, named=True)

    assert (deployment["spec"]["replicas"], daemon["spec"], unnamed, custom["spec"]["replicas"]) == (0, {}, 3, 1)


def test_a_finalizer_that_nobody_clears_is_told() -> None:
    """One whose owner serves an API is kept; the server's own are not judged here."""
    names = ["finalizer.cert-manager.io", "gone.example.com/cleanup", "kubernetes.io/pvc-protection", "foregroundDeletion"]
    manifest = an_object("v1", "Secret", "tls", metadata={"finalizers": names})

    assert uncleared(manifest, {"apps", "acme.cert-manager.io"}) == ["gone.example.com/cleanup"]
    assert uncleared(manifest, {"db.example.com", "cert-manager.io"}) == []


def test_an_old_definition_and_an_old_webhook_are_written_as_their_version_demands() -> None:
    """Unknown fields are kept by the schema; a webhook says that it has no side effects."""
    definition = a_definition()
    definition["spec"]["preserveUnknownFields"] = True
    webhook = an_object(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "w",
        namespace=None,
        webhooks=[{"name": "a", "sideEffects": "Unknown"}, {"name": "b", "sideEffects": "NoneOnDryRun"}],
    )
    stripped = strip(definition)["spec"]

    assert "preserveUnknownFields" not in stripped
    assert stripped["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"] is True
    assert [one["sideEffects"] for one in strip(webhook)["webhooks"]] == ["None", "NoneOnDryRun"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (3, "3"),
        ("1.5", "1.5"),
        ("2Gi", str(2 << 30)),
        ("1e3", "1000"),
        ("1k", "1000"),
        ("x", "0"),
        (True, "0"),
    ],
)
def test_amounts_are_read_as_kubernetes_writes_them(text: object, value: str) -> None:
    """Parts of a core as well as bytes; what is no amount counts for nothing."""
    assert amount(text) == Decimal(value)


def test_amounts_are_written_for_a_person() -> None:
    """Whole units where nothing is lost."""
    assert [written(Decimal(text)) for text in ("2147483648", "0.5", "3", "0")] == ["2Gi", "0.5", "3", "0"]
