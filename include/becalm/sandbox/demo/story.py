"""The story of the demo, step by step, each with its time: build the stage, protect, lose, restore, compare."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.table import Table

from becalm.errors import BecalmError, NotFound, PermanentError
from becalm.kube import connect
from becalm.kube.base import Cluster, Kind, Verb
from becalm.kube.kinds import CRD, NAMESPACE
from becalm.repository.reader import open_repository
from becalm.sandbox.applications import DATA, IMAGE, campaign_definition, manifests
from becalm.sandbox.demo.comparison import Comparison, compare_objects, compare_volume
from becalm.sandbox.demo.stage import DAG, POLICY, Stage
from becalm.storage import CREDENTIALS, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from becalm.model import Manifest

STEPS = 9
DATABASE = "orders-db-0"
CLAIM = "data-orders-db-0"
WAIT_SECONDS = 180.0


class Story:
    """One telling of it."""

    def __init__(self, stage: Stage, environment: Mapping[str, str], screen: Console) -> None:
        """Take the stage; nothing is started yet."""
        self.stage = stage
        self.environment = environment
        self.screen = screen
        self._number = 0
        self._cluster: Cluster | None = None
        self._kinds: dict[tuple[str, str], Kind] = {}

    def tell(self) -> bool:
        """Tell it from wherever it was left; return whether everything came back as it was. Raises BecalmError."""
        self.stage.write_policy()
        with ThreadPoolExecutor(max_workers=1) as pool:
            airflow = pool.submit(self._start_airflow)
            with self._step("cluster") as say:
                self.stage.start_cluster()
                say(f"{self._connect()} at {self.stage.kubeconfig_path}")
            with self._step("repository") as say:
                made = self.stage.becalm("init", str(self.stage.policy_file))
                say(f"{'created' if made['created'] else 'found'} {made['url']}")
            unfinished = self._is_lost() and bool(self.stage.points())
            if not unfinished:
                with self._step("application") as say:
                    say(f"namespace {self.stage.namespace}: {self._put_application()}")
            with self._step("airflow") as say:
                self._wait_for(airflow)
                say(self.stage.conductor.url)
        if unfinished:
            self.screen.print("       the namespace is gone and a recovery point is there: going on with the restore")
            self._number = 6
        else:
            self._protect()
            self._show()
            self._lose()
        self._restore()
        return self._compare()

    @contextmanager
    def _step(self, name: str) -> Iterator[Any]:
        """Print a step with what it came to and how long it took."""
        self._number += 1
        head, began, said = f"[{self._number}/{STEPS}] {name:<13}", time.monotonic(), [""]

        def say(text: str) -> None:
            said[0] = text

        if self.screen.is_terminal:
            with self.screen.status(f"{head}…"):
                yield say
        else:
            self.screen.print(f"{head} …", markup=False)
            yield say
        self.screen.print(f"{head} {said[0]}  ({time.monotonic() - began:.1f} s)", markup=False)

    def _start_airflow(self) -> None:
        self.stage.conductor.start()
        self.stage.conductor.make_pools()
        self.stage.conductor.wait_for_dag(DAG)

    def _wait_for(self, airflow: Future[None]) -> None:
        began = time.monotonic()
        told = 0
        while not airflow.done():
            time.sleep(0.1)
            waited = int(time.monotonic() - began)
            if waited >= told + 10:
                told = waited
                self.screen.print(f"        Airflow starts, {waited} s")
        airflow.result()

    def _connect(self) -> str:
        self._cluster = connect(kubeconfig=self.stage.kubeconfig_path)
        found = self.cluster.discover()
        self._kinds = {(kind.api_version, kind.kind): kind for kind in found.kinds}
        return found.server_version

    @property
    def cluster(self) -> Cluster:
        """The cluster, once it was reached."""
        if self._cluster is None:
            raise PermanentError("the cluster was not reached yet")
        return self._cluster

    def _is_lost(self) -> bool:
        try:
            self.cluster.get(NAMESPACE, self.stage.namespace)
        except NotFound:
            return True
        return False

    def _put_application(self) -> str:
        """Create what is not there of the sample application, and wait until it runs and its database is written to."""
        image = self.environment.get("BECALM_MOVER_IMAGE", IMAGE) if self.stage.real else IMAGE
        made = 0
        for manifest in manifests(self.stage.namespace, image=image):
            made += self._create(manifest)
        self._until("the database is written to", lambda: self._transactions() >= 20)
        objects = "is there" if not made else f"{made} objects made"
        return f"{objects}, the database holds {self._transactions()} transactions"

    def _create(self, manifest: Manifest) -> bool:
        key = (manifest["apiVersion"], manifest["kind"])
        if key not in self._kinds:
            self._until(f"{manifest['kind']} is served", lambda: self._connect() and key in self._kinds)
        kind, metadata = self._kinds[key], manifest["metadata"]
        try:
            self.cluster.get(kind, metadata["name"], namespace=metadata.get("namespace"))
        except NotFound:
            self.cluster.apply(kind, manifest, verb=Verb.CREATE)
            return True
        return False

    def _transactions(self) -> int:
        """Count the lines of the ledger, in the pod."""
        try:
            done = self.cluster.exec(
                self.stage.namespace, DATABASE, container="db", command=["sh", "-c", f"wc -l < {DATA}/ledger.log"], timeout_seconds=10
            )
        except BecalmError:
            return 0
        return int(done.stdout) if done.exit_code == 0 and done.stdout.strip().isdigit() else 0

    def _until(self, what: str, look: Any) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not look():
            if time.monotonic() > deadline:
                raise PermanentError(f"not within {WAIT_SECONDS:.0f} s: {what}", where=self.stage.namespace, hint="look at its pods")
            time.sleep(0.1)

    def _protect(self) -> None:
        """Trigger the policy's DAG through Airflow's REST API and wait for its end."""
        conductor = self.stage.conductor
        with self._step("protect") as say:
            run = conductor.trigger(DAG, {"note": "make demo"})
            state = conductor.wait(DAG, run, seconds=WAIT_SECONDS, report=lambda line: self.screen.print(f"        {line}", markup=False))
            if state != "success":
                raise PermanentError(f"the run {run} of {DAG} {state}: {conductor.failures(DAG, run)[-2500:]}", where=conductor.url)
            say(f"run {run} of DAG {DAG}")

    def _show(self) -> None:
        shown = self.stage.becalm("show", str(self.stage.policy_file))
        point, counts = shown["point"], shown["description"]["counts"]
        frozen = sum(thaw["frozen_seconds"] for thaw in shown["description"]["thaws"])
        self._number += 1
        self.screen.print(
            f"[{self._number}/{STEPS}] point         {point['id'][:8]}: {point['consistency']}, {counts['objects']} objects at revision {point['revision']}, "
            f"{counts['volumes']} volume with {counts['bytes']} bytes, frozen for {frozen:.2f} s",
            markup=False,
        )

    def _lose(self) -> None:
        with self._step("lose") as say:
            self.cluster.delete(NAMESPACE, self.stage.namespace)
            self.cluster.delete(CRD, campaign_definition()["metadata"]["name"])
            self._until("the namespace is gone", self._is_lost)
            say(f"namespace {self.stage.namespace} and its custom resources' definition are deleted, with every volume")

    def _restore(self) -> None:
        with self._step("restore") as say:
            done = self.stage.becalm("restore", str(self.stage.policy_file), "--yes")
            report = done["report"]
            say(f"{report['created']} objects and {len(report['volumes'])} volume restored by becalm restore, without Airflow")

    def _compare(self) -> bool:
        with self._step("compare") as say:
            self._connect()
            point = self.stage.becalm("show", str(self.stage.policy_file))["point"]
            credentials = {name: self.environment[name] for name in CREDENTIALS if name in self.environment}
            store = open_store(f"{self.stage.target_url}/{POLICY}", credentials)
            repository = open_repository(store, self.stage.password_file.read_text())
            self._until("the database is written to again", lambda: self._transactions() > 0)
            found = Comparison()
            compare_objects(repository, point["tree"], self.cluster, found)
            log = list(self.cluster.logs(self.stage.namespace, DATABASE, container="db"))
            compare_volume(repository, point["tree"], f"{self.stage.namespace}/{CLAIM}", log, found)
            say("everything is as it was saved" if found.equal else "there are differences")
        self._print(found)
        return found.equal

    def _print(self, found: Comparison) -> None:
        table = Table("kind", "equal", "different", "left to the cluster, because", box=None, pad_edge=True)
        for kind, row in sorted(found.rows.items()):
            reasons = "; ".join(f"{reason} ({count})" for reason, count in row.left_out.items())
            table.add_row(kind, str(row.equal or "-"), "\n".join(row.different) or "-", reasons or "-")
        same = found.files - len(found.wrong_files)
        table.add_row("file", str(same), "\n".join(found.wrong_files) or "-", f"{found.bytes} bytes, as the restarted database found them")
        self.screen.print(table)
        self.screen.print(f"not compared, since a server assigns it: {', '.join(found.rules)}", markup=False, style="dim")
