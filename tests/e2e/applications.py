"""The applications that the end-to-end tests protect: a PostgreSQL under constant writes, a volume of many small files, and a
namespace's worth of objects around them.
"""

from __future__ import annotations

import base64
from typing import Any

Manifest = dict[str, Any]

BUSYBOX = "becalm.dev/busybox:1"

INIT = """
set -e
install -d -o postgres -g postgres -m 0700 /data/pg
if [ ! -e /data/pg/PG_VERSION ]; then
  setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/15/bin/initdb -D /data/pg -U postgres -A trust --data-checksums >/dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/15/bin/postgres -D /data/pg -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp
"""

WRITER = """
until psql -qAt -h 127.0.0.1 -U postgres -c 'create table if not exists ledger(id bigint primary key, at timestamptz not null default clock_timestamp(), note text)' 2>/dev/null; do sleep 0.2; done
while :; do
  for i in $(seq 1 200); do
    echo "insert into ledger(id, note) select coalesce(max(id), 0) + 1, md5(random()::text) from ledger;"
  done | psql -qAt -h 127.0.0.1 -U postgres -v ON_ERROR_STOP=1 || sleep 0.2
done
"""

FREEZE = ["sh", "-c", "psql -qAt -h 127.0.0.1 -U postgres -c CHECKPOINT && fsfreeze --freeze /data"]
THAW = ["sh", "-c", "out=$(fsfreeze --unfreeze /data 2>&1) || case $out in *'Invalid argument'*) ;; *) echo \"$out\" >&2; exit 1;; esac"]
"""A file system that is not frozen answers 'Invalid argument': thawing twice is fine."""

FILL = """
if [ ! -e /files/done ]; then
  i=0
  while [ $i -lt $DIRECTORIES ]; do
    mkdir -p /files/d$i && cd /files/d$i
    seq 1 $PER_DIRECTORY | split -l 1 -a 3 - f
    i=$((i+1))
  done
  ln -s d0/faaa /files/link; ln /files/d0/faaa /files/hard; chmod 4750 /files/d0/faab
  truncate -s 64M /files/sparse; echo end >> /files/sparse
  sync; touch /files/done; sync
fi
exec sleep 1000000
"""


def claim(name: str, size: str = "2Gi") -> Manifest:
    """A claim of the default storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def database(image: str) -> list[Manifest]:
    """PostgreSQL in a StatefulSet, with a writer beside it that commits one transaction after the other."""
    mount = [{"name": "data", "mountPath": "/data"}]
    containers = [
        {
            "name": "db",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["bash", "-c", INIT],
            "volumeMounts": mount,
            "securityContext": {"privileged": True},
        },
        {"name": "writer", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["bash", "-c", WRITER]},
    ]
    for container in containers:
        container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    labels = {"app": "orders-db"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, "terminationGracePeriodSeconds": 2}}
    claims = [{"metadata": {"name": "data"}, "spec": claim("data")["spec"]}]
    spec = {
        "serviceName": "orders-db",
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": template,
        "volumeClaimTemplates": claims,
    }
    service = {"clusterIP": "None", "selector": labels, "ports": [{"name": "sql", "port": 5432}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders-db"}, "spec": service},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "orders-db", "labels": labels}, "spec": spec},
    ]


def files(image: str, *, directories: int, per_directory: int) -> list[Manifest]:
    """A Deployment with a volume of many small files, and a link, a hard link, a set-uid file and a sparse one."""
    labels = {"app": "files"}
    container = {
        "name": "files",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["bash", "-c", FILL],
        "env": [{"name": "DIRECTORIES", "value": str(directories)}, {"name": "PER_DIRECTORY", "value": str(per_directory)}],
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/files/done"]}, "periodSeconds": 1},
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": "files"}}],
        "terminationGracePeriodSeconds": 1,
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return [claim("files"), {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "files", "labels": labels}, "spec": spec}]


def definition(group: str) -> Manifest:
    """A custom resource definition: campaigns."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    names = {"plural": "campaigns", "singular": "campaign", "kind": "Campaign"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"campaigns.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def configuration(group: str) -> list[Manifest]:
    """The state that no repository holds: Secrets, a certificate, a CronJob, custom resources, roles."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "payment"},
        "data": {"key": base64.b64encode(b"s3cr3t\x00\xff").decode()},
    }
    tls_data = {"tls.crt": base64.b64encode(b"certificate").decode(), "tls.key": base64.b64encode(b"key").decode()}
    job = {"containers": [{"name": "report", "image": BUSYBOX, "command": ["true"]}], "restartPolicy": "Never"}
    cron = {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {"spec": {"template": {"spec": job}}}}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    subjects = [{"kind": "ServiceAccount", "name": "shopkeeper"}]
    role_ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    campaigns = [
        {
            "apiVersion": f"{group}/v1",
            "kind": "Campaign",
            "metadata": {"name": f"spring-{number}"},
            "spec": {"discount": number, "nested": {"list": [1, "two", None]}},
        }
        for number in range(5)
    ]
    return [
        secret,
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "shop-tls"}, "data": tls_data},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "annotations": {"changed-by": "hand"}},
            "data": {"theme": "dark"},
        },
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, "spec": cron},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shopkeeper"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader"}, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "subjects": subjects,
            "roleRef": role_ref,
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "files"}, "ports": [{"port": 80}]},
        },
        *campaigns,
    ]
