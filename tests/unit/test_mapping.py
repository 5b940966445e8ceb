"""Moving objects between namespaces: every known reference follows, and the way back leads to the start."""

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from becalm.kube.mapping import map_namespace

RBAC = "rbac.authorization.k8s.io/v1"
HOOKS = "admissionregistration.k8s.io/v1"
SOURCES = ("shop", "bank", "stage")
names = st.sampled_from([*SOURCES, "other"])
mappings = st.lists(st.sampled_from(SOURCES), unique=True).map(lambda chosen: {source: f"{source}-copy" for source in chosen})


def subject(namespace: str) -> st.SearchStrategy[dict]:
    """A subject of a binding."""
    return st.sampled_from(
        [
            {"kind": "ServiceAccount", "name": "web", "namespace": namespace},
            {"kind": "User", "name": f"system:serviceaccount:{namespace}:web"},
            {"kind": "Group", "name": f"system:serviceaccounts:{namespace}"},
            {"kind": "User", "name": "ann"},
        ]
    )


@st.composite
def manifests(draw: st.DrawFn) -> dict:
    """Objects with references to namespaces."""
    namespace, other = draw(names), draw(names)
    selector = {
        "matchLabels": {"kubernetes.io/metadata.name": other},
        "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [other, "z"]}],
    }
    service = {"namespace": other, "name": "hook"}
    return draw(
        st.sampled_from(
            [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "a", "namespace": namespace},
                    "data": {"url": f"http://web.{namespace}"},
                },
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": namespace, "labels": {"kubernetes.io/metadata.name": namespace}},
                },
                {
                    "apiVersion": RBAC,
                    "kind": "RoleBinding",
                    "metadata": {"name": "a", "namespace": namespace},
                    "subjects": [draw(subject(other))],
                },
                {"apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": "a"}, "subjects": [draw(subject(other))]},
                {
                    "apiVersion": HOOKS,
                    "kind": "ValidatingWebhookConfiguration",
                    "metadata": {"name": "a"},
                    "webhooks": [{"name": "w", "clientConfig": {"service": service}, "namespaceSelector": selector}],
                },
                {
                    "apiVersion": "apiextensions.k8s.io/v1",
                    "kind": "CustomResourceDefinition",
                    "metadata": {"name": "a"},
                    "spec": {"conversion": {"webhook": {"clientConfig": {"service": service}}}},
                },
                {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "a"}, "spec": {"service": service}},
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "NetworkPolicy",
                    "metadata": {"name": "a", "namespace": namespace},
                    "spec": {
                        "ingress": [{"from": [{"namespaceSelector": selector}]}],
                        "egress": [{"to": [{"namespaceSelector": selector}]}],
                    },
                },
            ]
        )
    )


@given(manifests(), mappings)
def test_the_way_back_leads_to_the_start(manifest: dict, mapping: dict[str, str]) -> None:
    """Mapping forth and back changes nothing, and the object itself is never touched."""
    before = deepcopy(manifest)
    back = {target: source for source, target in mapping.items()}

    assert map_namespace(map_namespace(manifest, mapping), back) == manifest
    assert manifest == before


@given(manifests())
def test_no_known_reference_to_the_old_namespaces_is_left(manifest: dict) -> None:
    """When every namespace moves, only what a program hides in its own data still names the old ones."""
    mapping = {name: f"{name}-copy" for name in (*SOURCES, "other")}
    mapped = map_namespace(manifest, mapping)
    mapped.pop("data", None)
    text = repr(mapped)

    assert not any(f"'{name}'" in text or f":{name}'" in text or f":{name}:" in text for name in mapping)


def test_what_a_program_hides_in_its_data_stays() -> None:
    """An address in a ConfigMap is the application's own."""
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}, "data": {"url": "http://web.shop"}}

    assert map_namespace(manifest, {"shop": "shop2"}) == {**manifest, "metadata": {"name": "a", "namespace": "shop2"}}
