"""`becalm reap` as a person types it, against a sandbox: what it would do, what it does, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from becalm.actions import credentials, freezes
from becalm.actions.freezes import Held, Note
from becalm.actions.handover import Ports, Settings
from becalm.clock import SystemClock
from becalm.kube import connect
from becalm.kube.base import Cluster, Verb
from becalm.kube.kinds import NAMESPACE, SECRET
from becalm.repository.reader import init_repository
from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.testing.builders import a_policy_document
from becalm.testing.sandbox import running_sandbox
from becalm.testing.saved_points import CHEAP

DEAD = "dead000000"


@dataclass
class Desk:
    """A terminal with a policy whose last run has died."""

    cluster: Cluster
    store: ObjectStore
    policy: Path
    variables: dict[str, str]

    def becalm(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run([sys.executable, "-m", "becalm.cli", *words], capture_output=True, text=True, env=self.variables, check=False)

    def reap(self, *words: str) -> tuple[int, Any]:
        """Reap, and read its one document."""
        done = self.becalm("reap", str(self.policy), "--json", *words)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def secrets(self) -> list[str]:
        """Return the Secrets that are there."""
        return [item["metadata"]["name"] for item in self.cluster.list(SECRET, namespace="becalm")]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A sandbox with a namespace, and a Secret that a dead run left."""
    with running_sandbox(tmp_path / "sandbox") as sandbox:
        cluster = connect(kubeconfig=str(sandbox.kubeconfig))
        for name in ("shop", "becalm"):
            cluster.apply(NAMESPACE, {"metadata": {"name": name}}, verb=Verb.CREATE)
        target = f"file://{tmp_path}/target"
        store = open_store(f"{target}/shop", {}, create=True)
        init_repository(store, "x", kdf=CHEAP)
        policy = tmp_path / "shop.yaml"
        policy.write_text(yaml.safe_dump(a_policy_document(target={"url": target, "password": "env:BECALM_PASSWORD"})))
        ports = Ports(cluster=cluster, store=store, password="x", clock=SystemClock(), settings=Settings(cluster_name="test"))
        credentials.ensure("shop", DEAD, "becalm", ports)
        variables = {**os.environ, "KUBECONFIG": str(sandbox.kubeconfig), "BECALM_PASSWORD": "x"}
        yield Desk(cluster=cluster, store=store, policy=policy, variables=variables)


def test_it_says_what_it_would_do_and_then_does_it(desk: Desk) -> None:
    """A dry run changes nothing; a real one leaves nothing, and a second finds nothing."""
    code, would = desk.reap("--dry-run")
    assert (code, would["ok"], would["plans"][0]["runs"], would["done"]) == (0, True, [DEAD], [])
    assert desk.secrets() == [credentials.secret_name(DEAD)]
    code, done = desk.reap()
    assert (code, done["ok"], done["done"][0]["runs"]) == (0, True, [DEAD])
    assert desk.secrets() == []
    again = desk.becalm("reap", str(desk.policy))

    assert (again.returncode, again.stderr) == (0, "")
    assert "there is nothing to do" in again.stdout


def test_what_may_be_frozen_still_ends_with_an_error_that_names_it(desk: Desk) -> None:
    """The policy has no such hook any more: a person has to look, and the exit code says so to whatever watches."""
    held = Held(hook="spec.quiesce.hooks.0", namespace="shop", pod="db-0", uid="1", container="main", switch="becalm.main.r.h.1")
    freezes.write(Note(run=DEAD, application="shop", seconds=1, held=(held,)), desk.store)
    shown = desk.becalm("reap", str(desk.policy))
    code, document = desk.reap()

    assert shown.returncode != 0
    assert "shop/db-0 (main) was frozen by run dead000000 and its hook spec.quiesce.hooks.0 is gone" in shown.stderr
    assert (code, document["ok"], len(document["done"][0]["frozen"])) == (5, False, 1)
