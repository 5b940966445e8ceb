"""In place on a real cluster: a Deployment that has changed its data since the recovery point is stopped, rolled back and started again."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import World, becalm, eventually, write_policy

DATA = "umask 002 && mkdir -p /data/deep && head -c 3000000 /dev/urandom > /data/deep/large && echo of the point > /data/file && sync"
"""With the rights that the kubelet gives to an fsGroup's files at each mount: it has nothing to change."""
CHANGE = (
    "umask 002 && echo of now > /data/file && echo x > /data/extra && printf y | dd of=/data/deep/large bs=1 seek=77 conv=notrunc && sync"
)


def application(image: str) -> list[dict]:
    """A claim with an fsGroup's files in it, and a Deployment that mounts it."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    container = {"name": "main", "image": image, "command": ["sleep", "3600"], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pod = {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        },
    ]


def test_a_running_application_goes_back_to_its_recovery_point(
    world: World, bucket: str, folder: Path, namespace: str, environment: dict[str, str], postgres_image: str
) -> None:
    """Files equal to the byte, owners and group as the kubelet leaves them; the old data is a snapshot until it is confirmed."""
    for manifest in application(postgres_image):
        world.create(manifest, namespace)
    pod = world.ready(namespace, "app=web")
    world.shell(namespace, pod, DATA, container="main")
    before = world.files(namespace, pod, "/data", container="main")
    lines = [
        "apiVersion: becalm.dev/v1",
        "kind: ProtectionPolicy",
        "metadata: {name: inplace}",
        "spec:",
        "  cluster: kubernetes_default",
        '  schedule: "0 0 1 1 *"',
        f"  select: {{namespaces: [{namespace}]}}",
        f'  target: {{url: "s3://{bucket}/inplace", connection: becalm_s3, password: "env:BECALM_PASSWORD"}}',
        "  retention: {last: 3}",
    ]
    policy = write_policy(folder / "inplace.yaml", lines)
    becalm("init", str(policy), environment=environment)
    becalm("run", str(policy), environment=environment)
    world.shell(namespace, pod, CHANGE, container="main")
    asked = ("--volume", f"{namespace}/data", "--in-place", "--verify-data", "--wait", "2m", "--yes")
    done = becalm("restore", str(policy), *asked, environment=environment)
    again = becalm("restore", str(policy), *asked, environment=environment)

    assert done["ok"]
    assert again["report"]["volumes"] == []
    pod = world.ready(namespace, "app=web")
    assert world.files(namespace, pod, "/data", container="main") == before
    assert [one["ok"] for one in becalm("restores", str(policy), environment=environment)["restores"]] == [True]

    snapshots = "snapshot.storage.k8s.io/v1/VolumeSnapshot"
    assert len(world.list(snapshots, namespace)) == 1
    assert len(becalm("confirm", str(policy), environment=environment)["deleted"]) == 1
    eventually(lambda: not world.list(snapshots, namespace), "the copy is gone", seconds=60)

    world.shell(namespace, pod, "rm /data/file", container="main")
    becalm(
        "restore", str(policy), "--file", f"volumes/{namespace}/data/file", "--into", f"{namespace}/data", "--yes", environment=environment
    )
    assert world.shell(namespace, pod, "cat /data/file", container="main") == "of the point\n"
