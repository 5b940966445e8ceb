"""How each task is tried: how often, how long, in which pool, and what an error means for the next try.

Every task of a policy has its row here, on purpose: Airflow's own defaults (five minutes between two tries, no limit of
time) suit no task of a backup. Nothing here knows what a task does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision

from becalm import errors

if TYPE_CHECKING:
    from airflow.sdk import Context

POOL = "becalm"
"""Ordinary tasks: short work on a worker."""
THAW_POOL = "becalm_thaw"
"""Kept free for what thaws, so that nobody stays frozen because workers are busy."""
MOVERS_POOL = "becalm_movers"
"""One slot is one mover pod, waited for or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How one task is tried."""

    retries: int
    delay: timedelta
    timeout: timedelta
    pool: str = POOL
    priority: int = 1


MANNERS: dict[str, Manner] = {
    # It waits for the lease, a minute at a time, for up to two hours: backfilled runs of a policy work one after the other.
    "begin": Manner(retries=120, delay=timedelta(seconds=10), timeout=timedelta(minutes=10)),
    "discover": Manner(retries=2, delay=timedelta(seconds=10), timeout=timedelta(minutes=15)),
    # Quiesce undoes its own part before it raises, so a second try opens a new window and prolongs none.
    "quiesce": Manner(retries=1, delay=timedelta(seconds=5), timeout=timedelta(minutes=15), priority=100),
    # A second cut in the same window would only keep the application frozen for longer.
    "snapshot": Manner(retries=0, delay=timedelta(seconds=1), timeout=timedelta(hours=2), priority=500),
    "thaw": Manner(retries=5, delay=timedelta(seconds=3), timeout=timedelta(minutes=10), pool=THAW_POOL, priority=1000),
    "export": Manner(retries=2, delay=timedelta(seconds=15), timeout=timedelta(hours=1)),
    "upload": Manner(retries=2, delay=timedelta(seconds=30), timeout=timedelta(hours=24), pool=MOVERS_POOL),
    "commit": Manner(retries=3, delay=timedelta(seconds=15), timeout=timedelta(hours=4)),
    "prune": Manner(retries=2, delay=timedelta(seconds=30), timeout=timedelta(hours=2)),
    "finish": Manner(retries=3, delay=timedelta(seconds=10), timeout=timedelta(hours=1), pool=THAW_POOL, priority=900),
    # The next tick comes in minutes: a second try would only hold up what is due now.
    "reap": Manner(retries=0, delay=timedelta(seconds=1), timeout=timedelta(minutes=30), pool=THAW_POOL, priority=800),
    "watch": Manner(retries=0, delay=timedelta(seconds=1), timeout=timedelta(minutes=4), pool=THAW_POOL, priority=700),
    "drift": Manner(retries=2, delay=timedelta(minutes=5), timeout=timedelta(hours=1)),
    "audit": Manner(retries=2, delay=timedelta(minutes=5), timeout=timedelta(hours=1)),
    "plan": Manner(retries=2, delay=timedelta(seconds=10), timeout=timedelta(minutes=30)),
    "restore": Manner(retries=2, delay=timedelta(seconds=30), timeout=timedelta(hours=24)),
    "verify": Manner(retries=2, delay=timedelta(seconds=30), timeout=timedelta(hours=4)),
    # The wait for a person is not limited by this time, but by the policy's own (`restore.approvalTimeout`).
    "approve": Manner(retries=2, delay=timedelta(seconds=5), timeout=timedelta(minutes=10)),
    "claims": Manner(retries=2, delay=timedelta(seconds=15), timeout=timedelta(hours=1)),
    "fill": Manner(retries=2, delay=timedelta(seconds=30), timeout=timedelta(hours=24), pool=MOVERS_POOL),
    "objects": Manner(retries=2, delay=timedelta(seconds=30), timeout=timedelta(hours=24)),
    "drill.begin": Manner(retries=2, delay=timedelta(seconds=10), timeout=timedelta(minutes=15)),
    "drill.restore": Manner(retries=2, delay=timedelta(seconds=30), timeout=timedelta(hours=24)),
    # What did not become ready in its time is not waited for a second time.
    "drill.check": Manner(retries=0, delay=timedelta(seconds=10), timeout=timedelta(hours=24)),
    "drill.finish": Manner(retries=5, delay=timedelta(seconds=10), timeout=timedelta(minutes=30), pool=THAW_POOL, priority=700),
    # It only says what is wrong; saying it twice helps nobody.
    "check": Manner(retries=0, delay=timedelta(seconds=1), timeout=timedelta(minutes=1)),
}


MOST_TRIES = 6
"""So often is anything tried that fails for another reason than the lease."""
LOOK_AT_LEASE = timedelta(minutes=1)


class ByErrorClass(ExceptionRetryPolicy):
    """Becalm's error tree as a retry policy: what a person must mend fails at once, what may pass is tried again.

    An error that says how long to wait is believed; but for a lease, which most often ends long before its time is over. Only for the
    lease is a task tried more than a few times.
    """

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None) -> RetryDecision:
        """Decide by the class of the error, and by the wait that it names."""
        if isinstance(exception, errors.LeaseHeld):
            return RetryDecision.retry(LOOK_AT_LEASE, reason="another run of this policy is at work; this one waits for its turn")
        if try_number > MOST_TRIES:
            return RetryDecision.fail(reason=f"it was tried {try_number} times")
        wait = exception.delay_seconds if isinstance(exception, errors.TransientError) else None
        if wait is not None:
            return RetryDecision.retry(timedelta(seconds=wait), reason=f"the other side asked to wait {wait:g} s")
        return super().evaluate(exception, try_number, max_tries, context)


RETRY_POLICY = ByErrorClass(
    rules=[
        RetryRule(
            exception=[errors.PolicyError, errors.UsageError, errors.PermanentError, errors.IntegrityError],
            action=RetryAction.FAIL,
            reason="this stays wrong until a person changes it",
        ),
        RetryRule(
            exception=errors.Throttled,
            action=RetryAction.RETRY,
            retry_delay=timedelta(seconds=30),
            reason="the other side asks for patience",
        ),
        RetryRule(exception=errors.TransientError, action=RetryAction.RETRY, reason="this may go better at the next try"),
    ]
)
