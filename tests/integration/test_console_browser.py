"""The console in a real browser, served by Airflow's own API server: every page, in light and dark, wide and narrow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.chromium import Page, a_page
from tests.integration.test_airflow_standalone import REPOSITORY, log_in, of_standalone, until
from tests.unit.console_scenes import FILES, POLICY, saved

from becalm.catalog import coverage, drift, epochs
from becalm.catalog.coverage import CoverageRecord, Look, Open
from becalm.catalog.drift import DriftLook, DriftRecord
from becalm.repository.reader import open_repository
from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.testing.saved_points import CUT, PASSWORD

pytestmark = pytest.mark.airflow

CHROMIUM = shutil.which("chromium") or ""
READING = "document.querySelector('meta[http-equiv=refresh]') !== null"
FLAWS = """[
  ...[...document.querySelectorAll('input:not([type=hidden]),select,textarea')].filter((one) => !one.labels.length).map((one) => `no label: ${one.name}`),
  ...[...document.querySelectorAll('a,button')].filter((one) => !(one.textContent.trim() || one.ariaLabel)).map((one) => `no words: ${one.outerHTML}`),
  ...[...document.querySelectorAll('svg[role=img]')].filter((one) => !one.ariaLabel).map(() => 'a picture without words'),
  ...(document.querySelectorAll('h1').length === 1 ? [] : ['not one heading']),
  ...(document.documentElement.lang ? [] : ['no language']),
  ...(document.documentElement.scrollWidth > innerWidth ? [`wider than the window: ${document.documentElement.scrollWidth}`] : []),
]"""


@dataclass(frozen=True, slots=True)
class Server:
    """An API server with the console, a token of its administrator, and two points."""

    url: str
    token: str
    points: tuple[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Airflow's API server over one policy with two points."""
    if not CHROMIUM:
        pytest.skip("there is no chromium: tests/install-debian chromium")
    home = tmp_path_factory.mktemp("console")
    (home / "policies").mkdir()
    text = POLICY.format(name="shop").replace("file:///somewhere", f"file://{home}/store").replace("NOT_READ_HERE", "BECALM_TEST_PASSWORD")
    (home / "policies" / "shop.yaml").write_text(text)
    (home / "passwords.json").write_text('{"admin": "admin"}')
    store = open_store(f"file://{home}/store/shop", {}, create=True)
    points = (saved(store).id, saved(store, cut=CUT.replace(day=13)).id)
    look_back(store, points[0])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BECALM", "KUBECONFIG"))}
    environment = (
        kept
        | of_standalone(home)
        | {
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "BECALM_POLICIES": str(home / "policies"),
            "BECALM_TEST_PASSWORD": PASSWORD,
        }
    )
    airflow = [sys.executable, "-m", "airflow"]
    for words in (["db", "migrate"], ["dags", "reserialize"]):
        subprocess.run([*airflow, *words], env=environment, check=True, capture_output=True, timeout=180)
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen(
            [*airflow, "api-server", "--workers", "1"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = environment["AIRFLOW__API__BASE_URL"]
        yield Server(url, until(lambda: log_in(url), 180), points)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def look_back(store: ObjectStore, point: str) -> None:
    """Leave what looks leave: slots that nobody answered, a cluster half covered, and an object that has drifted."""
    now = store.now()
    epochs.note(store, schedule="0 * * * *", timezone="UTC", now=now - timedelta(hours=30))
    repository = open_repository(store, PASSWORD)
    pieces = tuple(
        Open(
            where=f"configmaps/shop/a-rather-long-name-of-a-setting-{number}", what="config map", because="no policy selects it", since=now
        )
        for number in range(120)
    )
    looks = tuple(
        Look(time=now - timedelta(days=3 - day), percent=40 + day, arithmetic=f"{40 + day} of 100", missing=60 - day, unknown=0)
        for day in range(3)
    )
    coverage.save(repository, CoverageRecord(cluster="kubernetes_default", open=pieces, looks=looks), None)
    seen = DriftLook(time=now, point=point, compared=200, high=1, medium=119, low=0, unknown=0)
    drift.save(repository, DriftRecord(policy="shop", open=pieces, looks=(seen,)), None)


async def show(page: Page, url: str) -> None:
    """Open a page; one that is being read for the first time comes again by itself."""
    for _ in range(60):
        await page.open(url)
        if not await page.evaluate(READING):
            return
        await asyncio.sleep(1)
    pytest.fail(f"{url} is still being read")


def test_every_page_is_sound_in_light_and_dark_wide_and_narrow(server: Server, tmp_path: Path) -> None:
    """Nothing is said to the browser's console, nothing is wider than the window, and whoever cannot see is told."""
    own = f"/policies/shop/points/{server.points[0]}"
    addresses = (
        "/",
        "/policies/shop/points",
        own,
        f"{own}/objects?path=resources/core/secrets/shop",
        f"{own}/object?path=resources/core/secrets/shop/tls.json",
        f"{own}/files?path=volumes/shop/data",
        f"{own}/compare?with={server.points[1]}",
        f"{own}/restore",
        "/policies/shop/gaps",
        "/coverage",
        "/drift",
        "/ledger",
        "/drills",
    )

    async def look() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        async with a_page(CHROMIUM, tmp_path / "profile", {"_token": server.token}, server.url) as page:
            for address in addresses:
                for width, dark in ((1280, False), (1280, True), (400, False), (400, True)):
                    await page.look(width=width, dark=dark)
                    await show(page, f"{server.url}/becalm{address}")
                    flaws = [*await page.evaluate(FLAWS), *page.complaints]
                    page.complaints.clear()
                    if flaws:
                        found[f"{address} at {width}, {'dark' if dark else 'light'}"] = flaws
        return found

    assert asyncio.run(look()) == {}


def test_a_file_is_found_and_taken_away_by_clicking(server: Server, tmp_path: Path) -> None:
    """From the overview to a file's bytes, as a person goes."""

    async def click(page: Page, words: str) -> None:
        target = await page.evaluate(
            f"[...document.querySelectorAll('main a')].find((one) => one.textContent.trim().startsWith({words!r})).href"
        )
        await show(page, target)

    async def walk() -> tuple[str, str]:
        async with a_page(CHROMIUM, tmp_path / "profile", {"_token": server.token}, server.url) as page:
            await page.look(width=1280, dark=False)
            await show(page, f"{server.url}/becalm/")
            for words in ("shop", server.points[0][:8], "shop/data"):
                await click(page, words)
            link = "[...document.querySelectorAll('a[download]')].find((one) => one.ariaLabel?.endsWith('orders.db')).href"
            content = await page.evaluate(f"fetch({link}).then((answer) => answer.text())")
            await show(page, f"{server.url}/becalm/ledger?policy=shop")
            return content, await page.evaluate("document.querySelector('tbody').textContent")

    content, ledger = asyncio.run(walk())

    assert content.encode() == FILES["orders.db"]
    assert "downloaded" in ledger
    assert "orders.db" in ledger


def test_gaps_are_backfilled_by_a_click(server: Server, tmp_path: Path) -> None:
    """Airflow itself takes it, as the visitor's own wish; the same once more is refused in its own words."""

    async def click() -> list[str]:
        said = []
        async with a_page(CHROMIUM, tmp_path / "profile", {"_token": server.token}, server.url) as page:
            await page.look(width=1280, dark=False)
            for _ in range(2):
                await show(page, f"{server.url}/becalm/policies/shop/gaps")
                await page.evaluate("document.querySelector('#backfill button').click()")
                for _ in range(120):
                    verdict = await page.evaluate("document.getElementById('verdict').textContent")
                    if verdict and verdict != "Starting…":
                        break
                    await asyncio.sleep(0.25)
                said.append(verdict)
        return said

    first, second = asyncio.run(click())

    assert "has begun" in first
    assert "Airflow refused" in second
