"""A folder as tar from the console: whole, noted, not of everything, and cut short where it is damaged."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
from tests.unit.console_scenes import EVIL, FILES, Scene, a_console

from becalm.airflow.console.archive import archived
from becalm.catalog import ledger
from becalm.errors import BecalmError
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.testing.saved_points import PASSWORD


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A console of one's own."""
    with a_console() as made:
        yield made


def test_a_folder_comes_as_an_archive_with_all_below_it(scene: Scene) -> None:
    """Names are what they are within the archive, and the ledger has it first."""
    answer = scene.get(f"{scene.point_path}/archive?path=volumes/shop/data", "user")
    repository = open_repository(scene.store, PASSWORD)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {one.name: (archive.extractfile(one) or io.BytesIO()).read() for one in archive.getmembers() if one.isfile()}
    noted = [ledger.entry(repository, number) for number in ledger.numbers(repository)]

    assert found == {f"data/{name}": content for name, content in FILES.items()}
    assert f"data/{EVIL}" in found
    assert answer.headers["content-disposition"].startswith('attachment; filename="data.tar"')
    assert [(one.kind.value, one.who, one.content["path"]) for one in noted] == [("downloaded", "user", "volumes/shop/data")]


@pytest.mark.parametrize(
    "path", ["", "volumes", "resources", "endpoints", "volumes/../endpoints", "volumes/none", "volumes/shop/data/orders.db"]
)
def test_what_is_no_folder_of_a_volume_is_not_archived(scene: Scene, path: str) -> None:
    """Objects have Secrets among them, and are taken one by one."""
    answer = scene.get(f"{scene.point_path}/archive?path={path}")

    assert answer.status_code in (400, 404)


def test_a_damaged_archive_does_not_look_whole(scene: Scene) -> None:
    """It ends with an error in the middle."""
    repository = open_repository(scene.store, PASSWORD)
    for info in list(scene.store.list(Layout.DATA)):
        sealed = scene.store.get(info.key)
        scene.store.put(info.key, sealed[:-200] if len(sealed) > 400 else b"")

    with pytest.raises(BecalmError):
        list(archived(repository, scene.point.tree, "volumes/shop/data"))


def test_whoever_stops_taking_ends_the_work(scene: Scene) -> None:
    """No thread is left."""
    repository = open_repository(scene.store, PASSWORD)
    parts = archived(repository, scene.point.tree, "volumes/shop/data")
    first = next(parts)
    parts.close()  # type: ignore[attr-defined]

    assert first
