"""Jobs: pods until enough of them have succeeded, or too many have failed. CronJobs are kept and shown, and never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.answers import ApiError
from becalm.sandbox.ownership import active, controller_of, is_ready, pod_from
from becalm.sandbox.times import stamp
from becalm.sandbox.work import Worker

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.api import Api
    from becalm.sandbox.store import Change, Place

_RETRY_SECONDS = 1.0


class JobController:
    """Runs Jobs to their end."""

    def __init__(self, api: Api) -> None:
        """Serve one API; begin with `worker.start`."""
        self._api = api
        self.worker = Worker("jobs", self._look)

    def see(self, change: Change) -> None:
        """Note a change of a Job or of its pods."""
        if change.bucket == kinds.JOBS.bucket:
            self.worker.add(change.place)
        elif change.bucket == kinds.PODS.bucket:
            owner = controller_of(change.last)
            if owner is not None and owner["kind"] == "Job":
                self.worker.add((change.place[0], owner["name"]))

    def _look(self, place: Place) -> None:
        job = self._api.store.get(kinds.JOBS.bucket, place)
        if job is None or job["metadata"].get("deletionTimestamp"):
            return
        status = job.get("status") or {}
        if any(found["type"] in ("Complete", "Failed") and found["status"] == "True" for found in status.get("conditions") or ()):
            return
        mine = [
            pod
            for pod in self._api.store.all(kinds.PODS.bucket, namespace=place[0])
            if (controller_of(pod) or {}).get("uid") == job["metadata"]["uid"]
        ]
        succeeded = sum(pod["status"].get("phase") == "Succeeded" for pod in mine)
        failed = sum(pod["status"].get("phase") == "Failed" for pod in mine)
        running = [pod for pod in mine if active(pod)]
        spec = job["spec"]
        wanted = spec.get("completions") or spec["parallelism"]
        if succeeded >= wanted:
            self._report(place, running=[], succeeded=succeeded, failed=failed, end="Complete")
        elif failed > spec["backoffLimit"]:
            for pod in running:
                self._api.delete(kinds.PODS, (place[0], pod["metadata"]["name"]))
            self._report(place, running=[], succeeded=succeeded, failed=failed, end="Failed")
        else:
            self._make_pods(place, job, running, missing=min(spec["parallelism"], wanted - succeeded) - len(running))
            self._report(place, running=running, succeeded=succeeded, failed=failed)

    def _make_pods(self, place: Place, job: Manifest, running: list[Manifest], *, missing: int) -> None:
        if job["spec"].get("suspend"):
            for pod in running:
                self._api.delete(kinds.PODS, (place[0], pod["metadata"]["name"]))
            return
        for _ in range(missing):
            try:
                running.append(self._api.create(kinds.PODS, place[0], pod_from(job, job["spec"]["template"], generate=f"{place[1]}-")))
            except ApiError as error:
                if error.code not in (403, 404):
                    raise
                self.worker.add_after(place, _RETRY_SECONDS)
                return

    def _report(self, place: Place, *, running: list[Manifest], succeeded: int, failed: int, end: str = "") -> None:
        def report(job: Manifest) -> None:
            status: Manifest = {"startTime": (job.get("status") or {}).get("startTime") or stamp(), "ready": sum(map(is_ready, running))}
            status |= {name: count for name, count in (("active", len(running)), ("succeeded", succeeded), ("failed", failed)) if count}
            if end:
                now = stamp()
                reason = "CompletionsReached" if end == "Complete" else "BackoffLimitExceeded"
                message = "" if end == "Complete" else "Job has reached the specified backoff limit"
                condition = {
                    "type": end,
                    "status": "True",
                    "lastProbeTime": now,
                    "lastTransitionTime": now,
                    "reason": reason,
                    "message": message,
                }
                status["conditions"] = [condition]
                if end == "Complete":
                    status["completionTime"] = now
            job["status"] = status

        self._api.modify(kinds.JOBS.bucket, place, report)
