"""What is known of kinds of objects when state is looked for: which only mirror something else, and which stand for data. Tables, and no logic.

The list of operators is no promise: a custom resource of a group that is not here is still found, as a custom resource.
"""

from __future__ import annotations

MIRRORS = frozenset(
    {
        ("", "events"),
        ("events.k8s.io", "events"),
        ("", "endpoints"),
        ("discovery.k8s.io", "endpointslices"),
        ("coordination.k8s.io", "leases"),
        ("apps", "controllerrevisions"),
        ("", "podtemplates"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "csistoragecapacities"),
        ("storage.k8s.io", "volumeattachments"),
        ("certificates.k8s.io", "certificatesigningrequests"),
        ("cilium.io", "ciliumendpoints"),
        ("cilium.io", "ciliumidentities"),
        ("wgpolicyk8s.io", "policyreports"),
        ("acme.cert-manager.io", "orders"),
        ("acme.cert-manager.io", "challenges"),
        ("cert-manager.io", "certificaterequests"),
    }
)
"""Kinds that say what is going on, or that a controller makes again. They are not listed."""

DATABASES = {
    "acid.zalan.do": "PostgreSQL (Zalando)",
    "postgresql.cnpg.io": "PostgreSQL (CloudNativePG)",
    "postgres-operator.crunchydata.com": "PostgreSQL (Crunchy)",
    "pgv2.percona.com": "PostgreSQL (Percona)",
    "stackgres.io": "PostgreSQL (StackGres)",
    "pxc.percona.com": "MySQL (Percona XtraDB)",
    "ps.percona.com": "MySQL (Percona)",
    "mysql.oracle.com": "MySQL (Oracle)",
    "mysql.presslabs.org": "MySQL (Presslabs)",
    "k8s.mariadb.com": "MariaDB",
    "planetscale.com": "Vitess",
    "psmdb.percona.com": "MongoDB (Percona)",
    "mongodbcommunity.mongodb.com": "MongoDB",
    "mongodb.com": "MongoDB",
    "databases.spotahome.com": "Redis (Spotahome)",
    "redis.redis.opstreelabs.in": "Redis (Opstree)",
    "app.redislabs.com": "Redis Enterprise",
    "dragonflydb.io": "Dragonfly",
    "kafka.strimzi.io": "Kafka (Strimzi)",
    "platform.confluent.io": "Kafka (Confluent)",
    "cluster.redpanda.com": "Redpanda",
    "rabbitmq.com": "RabbitMQ",
    "jetstream.nats.io": "NATS JetStream",
    "pulsar.streamnative.io": "Pulsar",
    "zookeeper.pravega.io": "ZooKeeper",
    "elasticsearch.k8s.elastic.co": "Elasticsearch",
    "opensearch.opster.io": "OpenSearch",
    "solr.apache.org": "Solr",
    "cassandra.datastax.com": "Cassandra",
    "k8ssandra.io": "Cassandra (K8ssandra)",
    "scylla.scylladb.com": "ScyllaDB",
    "clickhouse.altinity.com": "ClickHouse",
    "druid.apache.org": "Druid",
    "crdb.cockroachlabs.com": "CockroachDB",
    "pingcap.com": "TiDB",
    "yugabyte.com": "YugabyteDB",
    "database.arangodb.com": "ArangoDB",
    "couchbase.com": "Couchbase",
    "neo4j.com": "Neo4j",
    "influxdata.com": "InfluxDB",
    "minio.min.io": "MinIO",
    "ceph.rook.io": "Ceph (Rook)",
    "etcd.database.coreos.com": "etcd",
    "vault.banzaicloud.com": "Vault",
    "kubedb.com": "a database of KubeDB",
}
"""Groups whose objects stand for a database or a store; a group below one of these counts as well."""

CLOUDS = (
    "crossplane.io",
    "upbound.io",
    "services.k8s.aws",
    "cnrm.cloud.google.com",
    "azure.com",
    "infra.contrib.fluxcd.io",
    "terraform.io",
    "ack.aws",
)
"""Groups whose objects stand for something that exists outside the cluster."""

DECLARING = {
    "meta.helm.sh/release-name": "Helm",
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
    "config.k8s.io/owning-inventory": "an inventory",
    "cert-manager.io/certificate-name": "cert-manager",
    "sealedsecrets.bitnami.com/managed": "Sealed Secrets",
    "addonmanager.kubernetes.io/mode": "the addon manager",
    "objectset.rio.cattle.io/id": "the deploy controller",
}
"""Labels and annotations by which a tool says that it keeps an object."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
APPLIERS = ("kubectl", "helm", "argocd", "kustomize-controller", "helm-controller", "kapp", "terraform", "Terraform", "pulumi")
"""How the field managers of tools begin that apply files, where the server merged what they sent (the operation `Apply`)."""

CLUSTER_MANAGERS = frozenset(
    {
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "cloud-controller-manager",
        "clusterrole-aggregation-controller",
        "api-priority-and-fairness-config-producer-v1",
    }
)
"""The field managers of Kubernetes' own parts: what only they wrote, a new cluster writes again."""
BOOTSTRAPPED = ("kubernetes.io/bootstrapping", "apf.kubernetes.io/autoupdate-spec", "kube-aggregator.kubernetes.io/automanaged")
"""Labels and annotations of what a new cluster has from its beginning."""

MADE_ALIKE = (
    "external-secrets.io",
    "bitnami.com",
    "secrets.hashicorp.com",
    "onepassword.com",
    "secrets.infisical.com",
    "isindir.github.com",
    "cert-manager.io",
)
"""Groups whose objects make a Secret again that does as well: from a vault, from sealed files, or by a new certificate."""

HANDS = (
    "kubectl-edit",
    "kubectl-patch",
    "kubectl-set",
    "kubectl-scale",
    "kubectl-label",
    "kubectl-annotate",
    "kubectl-create",
    "kubectl-run",
    "kubectl-expose",
    "kubectl-rollout",
    "kubectl-replace",
    "kubectl-autoscale",
    "kubectl-taint",
    "k9s",
    "node-fetch",
    "OpenLens",
    "dashboard",
    "Mozilla",
)
"""How the field managers of tools in people's hands begin. What applies a file (`kubectl-client-side-apply`) is none of them."""

SYSTEM_PATHS = ("/proc", "/sys", "/dev", "/run", "/var/run", "/lib/modules", "/usr/lib/modules", "/etc/localtime", "/boot")
"""Paths of a node that hold no data of an application."""

MADE_BY_THE_CLUSTER = frozenset({"kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert"})
"""Config maps that a controller puts into every namespace."""

SECRET_WORDS = {
    "Opaque": "of no special type",
    "kubernetes.io/tls": "a key with its certificate",
    "kubernetes.io/dockerconfigjson": "credentials of a registry",
    "kubernetes.io/dockercfg": "credentials of a registry",
    "kubernetes.io/basic-auth": "a user's password",
    "kubernetes.io/ssh-auth": "an SSH key",
    "kubernetes.io/service-account-token": "a lasting token of a service account",
    "bootstrap.kubernetes.io/token": "a token by which nodes join",
    "helm.sh/release.v1": "a release of Helm",
}
SEALING_KEY = "sealedsecrets.bitnami.com/sealed-secrets-key"
