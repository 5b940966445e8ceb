"""Mover pods on a real cluster that cannot do their work: what a person is told, and that nothing is left."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.clusters import real_subject

from becalm.kube.base import MoverState, MoverStatus
from becalm.kube.kinds import NAMESPACE, POD, SECRET
from becalm.kube.pods import PodMover
from becalm.model import Direction, MoverSpec, VolumeRef
from becalm.testing.contracts.cluster_subject import Subject

pytestmark = pytest.mark.cluster


@pytest.fixture
def place(real_subject: Subject) -> Iterator[str]:
    """A namespace with a claim `data` and a Secret `keys`."""
    name = real_subject.new_namespace()
    real_subject.claim(name, "data")
    real_subject.create(SECRET, {"metadata": {"name": "keys", "namespace": name}, "stringData": {"password": "p"}})
    yield name
    real_subject.cluster.delete(NAMESPACE, name)


def a_spec(namespace: str, *, secret: str = "keys") -> MoverSpec:
    return MoverSpec(
        name="becalm-r1-data",
        run="r1",
        direction=Direction.RESTORE,
        volume=VolumeRef(namespace="shop", claim="data"),
        namespace=namespace,
        claim="data",
        repository="s3://backups/shop",
        secret=secret,
    )


def a_mover(subject: Subject, image: str) -> PodMover:
    return PodMover(subject.cluster, subject.clock, image=image, policy="shop")


def test_a_mover_whose_program_is_missing_fails_with_the_reason(real_subject: Subject, place: str) -> None:
    """The pod is admitted, scheduled, its claim bound and mounted; then the image holds no Python. Cancelling leaves nothing."""
    mover = a_mover(real_subject, real_subject.image)
    handle = mover.start(a_spec(place))

    def ended() -> MoverStatus | None:
        status = mover.poll(handle, namespace=place)
        return status if status.state is MoverState.FAILED else None

    status = real_subject.eventually(ended)
    result = mover.result(handle, namespace=place)
    mover.cancel(handle, namespace=place)

    assert "python" in status.reason
    assert result is None
    assert real_subject.is_gone(POD, handle, place)
    assert mover.poll(handle, namespace=place).state is MoverState.GONE


def test_a_mover_whose_secret_is_missing_says_so_while_it_waits(real_subject: Subject, place: str) -> None:
    """The reason stands only in the pod's events."""
    mover = a_mover(real_subject, real_subject.image)
    handle = mover.start(a_spec(place, secret="absent"))

    def told() -> MoverStatus | None:
        status = mover.poll(handle, namespace=place)
        return status if "FailedMount" in status.reason else None

    status = real_subject.eventually(told)
    mover.cancel(handle, namespace=place)

    assert status.state is MoverState.WAITING
    assert "absent" in status.reason


def test_a_mover_whose_image_is_missing_says_so_while_it_waits(real_subject: Subject, place: str) -> None:
    """It may yet be pushed."""
    mover = a_mover(real_subject, "127.0.0.1:9/becalm/absent:1")
    handle = mover.start(a_spec(place))

    def told() -> MoverStatus | None:
        status = mover.poll(handle, namespace=place)
        return status if "Image" in status.reason else None

    status = real_subject.eventually(told)
    mover.cancel(handle, namespace=place)

    assert status.state is MoverState.WAITING
    assert "becalm/absent" in status.reason or "ImagePullBackOff" in status.reason
