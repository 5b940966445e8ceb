"""The console's rights as Airflow's own auth manager gives them: real users, real tokens, the application as the plugin builds it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

# Starlette's client for tests, which Airflow's own plugins module pulls in, warns of its own next version.
pytestmark = [pytest.mark.airflow, pytest.mark.filterwarnings("ignore:Using `httpx` with")]

PASSWORD = "correct horse"
ROUTES = {
    "/": (401, 200, 200, 200, 200),
    "/drills": (401, 200, 200, 200, 200),
    "/ledger": (401, 200, 200, 200, 200),
    "/metrics": (401, 200, 200, 200, 200),
    "/static/console.css": (401, 200, 200, 200, 200),
    "/policies/shop/points": (401, 200, 200, 200, 200),
    "{point}": (401, 200, 200, 200, 200),
    "{point}/objects": (401, 200, 200, 200, 200),
    "{point}/object?path={secret}": (401, 200, 200, 200, 200),
    "{point}/files?path=volumes/shop/data": (401, 200, 200, 200, 200),
    "{point}/compare?with={id}": (401, 200, 200, 200, 200),
    "{point}/restore": (401, 403, 200, 200, 200),
    "{point}/download?path=volumes/shop/data/orders.db": (401, 403, 200, 200, 200),
    "{point}/download?path={secret}": (401, 403, 403, 200, 200),
    "POST {point}/reveal": (401, 403, 403, 200, 200),
}
"""What each route answers to a stranger, a viewer, a user, an operator and an administrator."""
USERS = ("", "viewer", "user", "op", "admin")
SECRET = "resources/core/secrets/shop/tls.json"


@pytest.fixture(scope="module")
def console(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str, dict[str, str]]]:
    """The plugin's application over a folder of policies, the id of a point, and a token of each user."""
    from airflow.api_fastapi.app import create_auth_manager  # noqa: PLC0415  (Airflow is imported when its home is made)
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser  # noqa: PLC0415  (Airflow is imported when its home is made)
    from tests.unit.console_scenes import POLICY, saved  # noqa: PLC0415  (Airflow is imported when its home is made)

    from becalm.airflow.plugin import BecalmPlugin  # noqa: PLC0415  (Airflow is imported when its home is made)
    from becalm.storage import open_store  # noqa: PLC0415  (Airflow is imported when its home is made)

    assert database.exists()
    store = tmp_path_factory.mktemp("console")
    policies = Path(store / "policies")
    policies.mkdir()
    (policies / "shop.yaml").write_text(
        POLICY.format(name="shop").replace("file:///somewhere", f"file://{store}").replace("NOT_READ_HERE", "BECALM_TEST_PASSWORD")
    )
    point = saved(open_store(f"file://{store}/shop", {}, create=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BECALM_POLICIES", str(policies))
        patch.setenv("BECALM_TEST_PASSWORD", PASSWORD)
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a long secret of the tests, for nothing else " * 2)
        manager = create_auth_manager()
        manager.init()
        tokens = {name: manager.generate_jwt(SimpleAuthManagerUser(username=name, role=name)) for name in USERS if name}
        yield BecalmPlugin.fastapi_apps[0]["app"], point.id, tokens


def ask(app: Any, method: str, path: str, headers: dict[str, str], cookies: dict[str, str] | None = None) -> httpx.Response:
    """Ask the application; what it reads for the first time, a second time."""

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://console.test", headers=headers, cookies=cookies) as client:
            return await client.request(method, path, data={"path": SECRET} if method == "POST" else None, timeout=60)

    answer = asyncio.run(once())
    for _ in range(30):
        if "is being read for the first time" not in answer.text:
            break
        answer = asyncio.run(once())
    return answer


def test_every_route_knows_every_role_of_airflow(console: tuple[Any, str, dict[str, str]]) -> None:
    """Routes by roles, with real tokens."""
    app, point, tokens = console
    found = {}
    for route in ROUTES:
        method, _, path = route.rpartition(" ")
        path = path.format(point=f"/policies/shop/points/{point}", id=point, secret=SECRET)
        headers = [{"Authorization": f"Bearer {tokens[user]}"} if user else {} for user in USERS]
        found[route] = tuple(ask(app, method or "GET", path, one).status_code for one in headers)

    assert sum(map(len, ROUTES.values())) >= 60
    assert found == ROUTES


def test_a_cookie_alone_reveals_nothing(console: tuple[Any, str, dict[str, str]]) -> None:
    """A browser sends it by itself, whoever made the form; a page needs the token and the origin too."""
    app, point, tokens = console
    path = f"/policies/shop/points/{point}"
    page = ask(app, "GET", f"{path}/object?path={SECRET}", {}, {"_token": tokens["admin"]})
    posted = ask(app, "POST", f"{path}/reveal", {"Origin": "http://console.test"}, {"_token": tokens["admin"]})

    assert (page.status_code, posted.status_code) == (200, 403)


def test_the_plugin_imports_no_page_before_it_is_asked() -> None:
    """Every task process loads plugins: this one costs them nothing."""
    import subprocess  # noqa: PLC0415  (Airflow is imported when its home is made)
    import sys  # noqa: PLC0415  (Airflow is imported when its home is made)

    code = "import sys; import becalm.airflow.plugin; print([m for m in sys.modules if m.startswith(('becalm.airflow.console', 'fastapi.app', 'becalm.repository'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip().endswith("[]")
