"""Sixty kinds of state that hide in a cluster, each planted once, and where each must be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from becalm.actions.state import What
from becalm.kube.base import Kind
from becalm.model import Manifest
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.objects import a_claim, a_namespace, a_pod, a_volume, an_object

SHOP = "shop"
SENTINEL = "dG9wLXNlY3JldC12YWx1ZQ=="
"""What stands as the value in every Secret, and in what kubectl noted of it: it must come out nowhere."""
CONTROLLED = [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": True}]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One piece of hidden state: what is put into the cluster, and as what it must be found."""

    objects: tuple[Manifest, ...]
    what: What
    where: str
    says: str = ""
    """What its detail must hold."""


def custom(group: str, resource: str, kind: str) -> tuple[Kind, Manifest]:
    """Return a kind of its own, and an object of it."""
    made = Kind(group=group, version="v1", resource=resource, kind=kind, namespaced=True)
    return made, an_object(f"{group}/v1", kind, f"my-{kind.lower()}", SHOP, spec={})


def pod_with(name: str, volume: dict[str, Any], **mount: Any) -> Manifest:
    """Return a pod of a controller that mounts one volume."""
    containers = [{"name": "main", "volumeMounts": [{"name": volume["name"], "mountPath": "/data", **mount}]}]
    made = a_pod(name, SHOP, containers=("main",))
    made["metadata"]["ownerReferences"] = [{**CONTROLLED[0], "name": name}]
    made["spec"] |= {"containers": containers, "volumes": [volume]}
    return made


def a_secret(name: str, sort: str = "Opaque", *, key: str = "value", **metadata: Any) -> Manifest:
    """Return a Secret with a value that nobody may ever print."""
    made = an_object("v1", "Secret", name, SHOP, type=sort, data={key: SENTINEL})
    noted = {"kubectl.kubernetes.io/last-applied-configuration": f'{{"data": {{"value": "{SENTINEL}"}}}}'}
    made["metadata"] |= {"annotations": noted, **metadata}
    return made


def _volumes_of_pods() -> list[Planted]:
    found = [
        Planted(
            objects=(pod_with("node-writer", {"name": "v", "hostPath": {"path": "/srv/data"}}),),
            what=What.NODE_PATH,
            where="pods/shop/node-writer: hostPath /srv/data",
            says="on the node node-1",
        ),
        Planted(
            objects=(pod_with("scratch", {"name": "cache", "emptyDir": {}}),),
            what=What.SCRATCH,
            where="pods/shop/scratch: emptyDir cache",
            says="goes with the pod",
        ),
        Planted(
            objects=(pod_with("ephemeral", {"name": "work", "ephemeral": {"volumeClaimTemplate": {}}}),),
            what=What.POD_VOLUME,
            where="pods/shop/ephemeral: ephemeral work",
            says="goes with the pod",
        ),
        Planted(objects=(a_pod("alone", SHOP),), what=What.BARE_POD, where="pods/shop/alone", says="nothing makes it again"),
    ]
    inline = ("nfs", "iscsi", "fc", "cephfs", "rbd", "glusterfs", "azureFile", "awsElasticBlockStore", "csi", "flexVolume")
    found += [
        Planted(
            objects=(pod_with(f"pod-{kind.lower()}", {"name": "v", kind: {"server": "x"}}),),
            what=What.POD_VOLUME,
            where=f"pods/shop/pod-{kind.lower()}: {kind} v",
            says="has no claim",
        )
        for kind in inline
    ]
    return found


def _claims() -> list[Planted]:
    def claimed(name: str, says: str, *, volume: dict[str, Any] | None = None, **claim: Any) -> Planted:
        made = a_claim(name, SHOP, **claim)
        bound = a_volume(made) if "volumeName" in made["spec"] else None
        if bound and volume:
            bound["spec"] = {"persistentVolumeReclaimPolicy": "Retain", **volume}
        objects = (bound, made) if bound else (made,)
        return Planted(objects=objects, what=What.CLAIM, where=f"persistentvolumeclaims/shop/{name}", says=says)

    lost = a_claim("lost", SHOP)
    lost["status"]["phase"] = "Lost"
    released = an_object(
        "v1", "PersistentVolume", "left-behind", spec={"nfs": {"server": "x"}, "claimRef": {"namespace": "old", "name": "data"}}
    )
    released["status"] = {"phase": "Released"}
    failed = an_object("v1", "PersistentVolume", "failed", spec={"csi": {"driver": "d"}}, status={"phase": "Failed"})
    spare = an_object("v1", "PersistentVolume", "spare", spec={"local": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Retain"})
    spare["status"] = {"phase": "Available"}
    return [
        claimed("goes", "its data goes with the claim"),
        claimed("unmounted", "no pod mounts it"),
        claimed("on-local", "local, on one node", volume={"local": {"path": "/disks/1"}}),
        claimed("on-host-path", "hostPath, on one node", volume={"hostPath": {"path": "/disks/2"}}),
        claimed("on-nfs", "nfs", volume={"nfs": {"server": "x", "path": "/"}}),
        claimed("raw", "raw block", mode="Block"),
        claimed("waiting", "it is Pending", bound=False),
        Planted(objects=(lost,), what=What.CLAIM, where="persistentvolumeclaims/shop/lost", says="it is Lost"),
        Planted(objects=(released,), what=What.VOLUME, where="persistentvolumes/left-behind", says="it was the claim old/data"),
        Planted(objects=(failed,), what=What.VOLUME, where="persistentvolumes/failed", says="it is Failed"),
        Planted(objects=(spare,), what=What.VOLUME, where="persistentvolumes/spare", says="it is Available"),
        Planted(
            objects=(an_object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "before-upgrade", SHOP, spec={}),),
            what=What.SNAPSHOT,
            where="volumesnapshots.snapshot.storage.k8s.io/shop/before-upgrade",
            says="same storage",
        ),
    ]


def _secrets() -> list[Planted]:
    rows = [
        ("by-hand", "Opaque", "no special type"),
        ("registry", "kubernetes.io/dockerconfigjson", "a registry"),
        ("registry-old", "kubernetes.io/dockercfg", "a registry"),
        ("user", "kubernetes.io/basic-auth", "a user's password"),
        ("ssh", "kubernetes.io/ssh-auth", "an SSH key"),
        ("lasting", "kubernetes.io/service-account-token", "a lasting token"),
        ("join", "bootstrap.kubernetes.io/token", "nodes join"),
        ("release", "helm.sh/release.v1", "a release of Helm"),
        ("own-type", "example.org/licence", "a type of its own"),
    ]
    found = [
        Planted(objects=(a_secret(name, sort),), what=What.SECRET, where=f"secrets/shop/{name}", says=says) for name, sort, says in rows
    ]
    sealing = a_secret("sealing", labels={"sealedsecrets.bitnami.com/sealed-secrets-key": "active"})
    found.append(Planted(objects=(sealing,), what=What.SECRET, where="secrets/shop/sealing", says="no sealed secret in Git"))
    broken = a_secret("tls", "kubernetes.io/tls", key="tls.crt")
    found.append(Planted(objects=(broken,), what=What.CERTIFICATE, where="secrets/shop/tls", says="not a certificate"))
    return found


def _objects() -> list[Planted]:
    edited = an_object("apps/v1", "Deployment", "edited", SHOP, spec={})
    edited["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "operation": "Update", "time": "2026-06-01T10:00:00Z"}]
    patched = an_object("networking.k8s.io/v1", "NetworkPolicy", "patched", SHOP, spec={})
    patched["metadata"]["managedFields"] = [{"manager": "kubectl-patch", "time": "2026-06-01T10:00:00Z"}]
    role = an_object("rbac.authorization.k8s.io/v1", "ClusterRole", "helper", rules=[])
    role["metadata"]["managedFields"] = [{"manager": "kubectl-create", "time": "2026-06-01T10:00:00Z"}]
    drawn = an_object("v1", "ConfigMap", "drawn", SHOP, data={"a": "1"})
    edited_map = an_object("v1", "ConfigMap", "tuned", SHOP, data={"a": "1"})
    edited_map["metadata"]["managedFields"] = [{"manager": "k9s", "time": "2026-06-01T10:00:00Z"}]
    templates = {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}
    return [
        Planted(objects=(edited,), what=What.BY_HAND, where="deployments.apps/shop/edited", says="kubectl-edit"),
        Planted(objects=(patched,), what=What.BY_HAND, where="networkpolicies.networking.k8s.io/shop/patched", says="kubectl-patch"),
        Planted(objects=(role,), what=What.BY_HAND, where="clusterroles.rbac.authorization.k8s.io/helper", says="kubectl-create"),
        Planted(objects=(drawn,), what=What.CONFIG_MAP, where="configmaps/shop/drawn", says="no file explains it"),
        Planted(objects=(edited_map,), what=What.CONFIG_MAP, where="configmaps/shop/tuned", says="changed by hand with k9s"),
        Planted(
            objects=(an_object("apps/v1", "StatefulSet", "db", SHOP, spec=templates),),
            what=What.STATEFUL_SET,
            where="statefulsets.apps/shop/db",
            says="1 claims",
        ),
        Planted(
            objects=(an_object("apps/v1", "StatefulSet", "bare", SHOP, spec={}),),
            what=What.STATEFUL_SET,
            where="statefulsets.apps/shop/bare",
            says="without claims",
        ),
        Planted(
            objects=(an_object("batch/v1", "CronJob", "nightly", SHOP, spec={"schedule": "0 3 * * *"}),),
            what=What.CRON_JOB,
            where="cronjobs.batch/shop/nightly",
            says="0 3 * * *",
        ),
        Planted(
            objects=(an_object("v1", "Service", "legacy", SHOP, spec={"type": "ExternalName", "externalName": "db.example.org"}),),
            what=What.OUTSIDE,
            where="services/shop/legacy",
            says="db.example.org",
        ),
        Planted(
            objects=(an_object("v1", "Service", "by-address", SHOP, spec={"ports": []}),),
            what=What.OUTSIDE,
            where="services/shop/by-address",
            says="by hand",
        ),
    ]


CUSTOM = [
    ("shop.example.org", "campaigns", "Campaign", What.CUSTOM, "no file explains it"),
    ("postgresql.cnpg.io", "clusters", "Cluster", What.DATABASE, "CloudNativePG"),
    ("acid.zalan.do", "postgresqls", "Postgresql", What.DATABASE, "Zalando"),
    ("kafka.strimzi.io", "kafkas", "Kafka", What.DATABASE, "Kafka"),
    ("rabbitmq.com", "rabbitmqclusters", "RabbitmqCluster", What.DATABASE, "RabbitMQ"),
    ("elasticsearch.k8s.elastic.co", "elasticsearches", "Elasticsearch", What.DATABASE, "Elasticsearch"),
    ("mongodbcommunity.mongodb.com", "mongodbcommunity", "MongoDBCommunity", What.DATABASE, "MongoDB"),
    ("databases.spotahome.com", "redisfailovers", "RedisFailover", What.DATABASE, "Redis"),
    ("minio.min.io", "tenants", "Tenant", What.DATABASE, "MinIO"),
    ("rds.services.k8s.aws", "dbinstances", "DBInstance", What.OUTSIDE, "outside the cluster"),
    ("sql.cnrm.cloud.google.com", "sqlinstances", "SQLInstance", What.OUTSIDE, "outside the cluster"),
    ("s3.aws.upbound.io", "buckets", "Bucket", What.OUTSIDE, "outside the cluster"),
    ("cert-manager.io", "certificates", "Certificate", What.CERTIFICATE, "not been issued"),
    ("cert-manager.io", "issuers", "Issuer", What.CUSTOM, "no file explains it"),
]


def a_cluster_with_all() -> tuple[FakeCluster, list[Planted]]:
    """Return a cluster with every kind of hidden state in it, and the list of them."""
    cluster = FakeCluster()
    planted = [*_volumes_of_pods(), *_claims(), *_secrets(), *_objects()]
    for group, resource, kind, what, says in CUSTOM:
        made, item = custom(group, resource, kind)
        cluster.kinds.append(made)
        planted.append(Planted(objects=(item,), what=what, where=f"{resource}.{group}/shop/{item['metadata']['name']}", says=says))
    cluster.put(a_namespace(SHOP))
    for one in planted:
        cluster.put(*one.objects)
    return cluster, planted
