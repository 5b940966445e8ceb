"""Reports: what is known is graded and names its evidence, what is not known is never good, and the page says what the JSON says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest

from becalm.actions import reporting
from becalm.actions.drill_steps import DrillReport
from becalm.actions.objectives import Facts, status, unreachable
from becalm.actions.report_page import render
from becalm.actions.reporting import Grade, Report, Seen, Statement
from becalm.catalog.coverage import CoverageRecord, Look, Open
from becalm.catalog.epochs import Epoch
from becalm.catalog.history import RunRecord
from becalm.catalog.verified import Known, OpenDamage
from becalm.model import Finding
from becalm.testing.builders import NOON, a_point, a_policy, hours

MONTH = timedelta(days=30)
HOSTILE = "<script>alert('x')</script>&\"'"


def a_run(**more: Any) -> RunRecord:
    said: dict[str, Any] = {"run": "r", "run_id": "scheduled", "trigger": "scheduled", "ok": True, "frozen": {"db": 2.5}, **more}
    return RunRecord(started=NOON - hours(1), ended=NOON - hours(0.9), **said)


def a_drill(**more: Any) -> DrillReport:
    said: dict[str, Any] = {"id": "d1", "policy": "shop", "point": "ab" * 32, "ok": True, "objects": 213, "recovery_seconds": 180.0, **more}
    return DrillReport(cut=NOON - hours(30), started=NOON - hours(25), ended=NOON - hours(24), rto_seconds=3600.0, **said)


def a_look(**more: Any) -> CoverageRecord:
    said: dict[str, Any] = {"time": NOON - hours(2), "percent": 100, "arithmetic": "7 of 7 = 100 %", "missing": 0, "unknown": 0, **more}
    return CoverageRecord(cluster="kubernetes_default", looks=(Look(**said),))


def well(*, facts: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **more: Any) -> Seen:
    """Return a policy of which all is known, and all is well."""
    policy = a_policy(**{"schedule": "0 * * * *", "objectives": {"rpo": "2h", "rto": "1h"}, **(spec or {})})
    slots = [a_point(cut=NOON - hours(age), slot=NOON - hours(age), locked_until=NOON + MONTH) for age in (0, 1, 2)]
    epochs = (Epoch(since=NOON - hours(2.5), schedule="0 * * * *", timezone="UTC"),)
    said = Facts(**{"now": NOON, "points": tuple(slots), "runs": (a_run(),), "epochs": epochs, **(facts or {})})
    known: dict[str, Any] = {"drills": (a_drill(),), "verified": Known(last=NOON - hours(3), entry=7), "coverage": a_look()}
    return Seen(policy=policy, status=status(policy, said, window=MONTH), points=said.points, **{**known, **more})


def a_report(*seen: Seen) -> Report:
    return reporting.compose(seen, made=NOON, window=MONTH, version="1.2.3")


def statement(what: str, *seen: Seen) -> Statement:
    """Return the statement whose name begins like this."""
    made = a_report(*seen)
    return next(one for part in (*made.policies, *made.clusters) for one in part.statements if one.what.startswith(what))


def test_all_is_good_only_where_all_is_known_and_well() -> None:
    """And each statement but those that nobody asked for names what proves it, or counts it."""
    made = a_report(well())
    said = [one for part in (*made.policies, *made.clusters) for one in part.statements]

    assert made.grade is Grade.GOOD
    assert {one.what for one in said if one.grade is not Grade.GOOD} == {"locks in force", "claims of needing no backup"}
    assert all(one.evidence or one.figures for one in said if one.grade is Grade.GOOD)


@pytest.mark.parametrize(
    ("what", "seen", "grade", "words"),
    [
        ("age", well(facts={"points": (a_point(age=hours(5)),)}), Grade.BAD, "missed"),
        ("age", well(facts={"points": ()}), Grade.BAD, "no good recovery point"),
        ("age", well(spec={"objectives": {}}), Grade.UNASKED, "old"),
        ("schedule", well(facts={"points": (a_point(age=hours(2), slot=NOON - hours(2)),)}, spec={"missed": "all"}), Grade.BAD, "missed"),
        ("schedule", well(facts={"epochs": ()}, spec={"schedule": None}), Grade.UNASKED, "no schedule"),
        ("runs", well(facts={"runs": (a_run(ok=False, reasons=("a hook failed",)),)}), Grade.BAD, "the newest failed"),
        ("runs", well(facts={"runs": ()}), Grade.UNKNOWN, "no run ended"),
        ("runs", well(), Grade.GOOD, "2.5 s"),
        ("restores", well(drills=()), Grade.UNKNOWN, "not proven"),
        ("restores", well(drills=None), Grade.UNKNOWN, "could not be read"),
        ("restores", well(drills=(a_drill(ok=False),)), Grade.BAD, "0 of 1 drills passed"),
        ("restores", well(drills=(replace(a_drill(), ended=NOON - 2 * MONTH),)), Grade.UNKNOWN, "no drill in this time"),
        ("restores", well(), Grade.GOOD, "213 objects"),
        ("repository", well(verified=Known()), Grade.UNKNOWN, "never verified"),
        ("repository", well(verified=None), Grade.UNKNOWN, "could not be read"),
        ("repository", well(verified=Known(last=NOON - 2 * MONTH)), Grade.UNKNOWN, "not in this time"),
        (
            "repository",
            well(verified=Known(last=NOON, damages=(OpenDamage(where="s3://b/data/1", problem="it is gone", since=NOON),))),
            Grade.BAD,
            "1 damages",
        ),
        ("state", well(coverage=None), Grade.UNKNOWN, "nobody has looked"),
        ("state", well(coverage=a_look(missing=3, arithmetic="4 of 7 = 57 %")), Grade.BAD, "4 of 7"),
        ("state", well(coverage=a_look(unknown=2)), Grade.UNKNOWN, "2 things could not be read"),
        ("state", well(coverage=a_look(time=NOON - 2 * MONTH)), Grade.UNKNOWN, "the last look was"),
        ("claims", well(coverage=a_look(claims={"front": "expired", "back": "valid"})), Grade.BAD, "1 expired, 1 valid"),
        ("claims", well(coverage=a_look(claims={"back": "valid"})), Grade.GOOD, "1 valid"),
        ("not read", well(unknown=(Finding(where="the locks", message="no right"),)), Grade.UNKNOWN, "1 things"),
    ],
)
def test_each_statement_has_the_grade_that_its_facts_give_it(what: str, seen: Seen, grade: Grade, words: str) -> None:
    """What was not looked at is unknown."""
    found = statement(what, seen)

    assert found.grade is grade
    assert words in found.said


def test_a_lock_counts_as_long_as_the_policy_asks_for_it() -> None:
    """A point that is older than the policy's days may be free; one of these days that is free is named."""
    asked = {"target": {"url": "s3://backups/test", "password": "env:X", "lock": {"mode": "compliance", "days": 7}}}
    held = a_point(age=hours(1), locked_until=NOON + hours(100))
    free = a_point(age=hours(2))
    old = a_point(age=timedelta(days=9))
    good = statement("locks", replace(well(spec=asked), points=(held, old)))
    bad = statement("locks", replace(well(spec=asked), points=(held, free)))

    assert (good.grade, good.said.split(" (")[0]) == (Grade.GOOD, "1 of 1 good points of the last 7 days are locked")
    assert (bad.grade, bad.details) == (Grade.BAD, (f"{free.id[:8]} of 2026-06-15 10:00 UTC is not locked",))


def test_a_bucket_that_cannot_be_read_is_one_unknown_statement() -> None:
    """Nothing else is said of that policy, and the whole is not good."""
    policy = a_policy()
    gone = Seen(policy=policy, status=unreachable(policy, Finding(where="s3://b", message="it does not answer"), now=NOON))
    (part,) = a_report(gone).policies

    assert [(one.grade, "does not answer" in one.said) for one in part.statements] == [(Grade.UNKNOWN, True)]
    assert a_report(gone).grade is Grade.UNKNOWN


def test_long_lists_are_cut_and_counted() -> None:
    """The number of all stands in the figures."""
    damages = tuple(OpenDamage(where=f"s3://b/data/{number}", problem="gone", since=NOON) for number in range(50))
    found = statement("repository", well(verified=Known(last=NOON, damages=damages)))

    assert len(found.details) == reporting.MOST_NAMED + 1
    assert (found.details[-1], found.figures["damages"]) == ("and 30 more", 50)


def test_the_same_report_gives_the_same_json() -> None:
    """It names its kind and format, and times are UTC."""
    made = a_report(well())
    document = orjson.loads(reporting.as_json(made))

    assert reporting.as_json(made) == reporting.as_json(a_report(well()))
    assert (document["kind"], document["format"], document["version"], document["grade"]) == ("becalm-report", 1, "1.2.3", "good")
    assert document["made"] == "2026-06-15T12:00:00Z"


class _Reader(HTMLParser):
    """Reads a page: which elements it has, what they ask for, and whether each is closed."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open it."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the one that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text.append(data)


def test_the_page_is_whole_needs_nothing_and_runs_nothing() -> None:
    """Names are chosen by others: they stay text."""
    piece = Open(where=f"configmaps/{HOSTILE}", what="config map", because=HOSTILE, since=NOON)
    record = replace(a_look(missing=1), open=(piece,))
    page = render(a_report(well(coverage=record)), json_name="r.json", json_digest="ab" * 32)
    reader = _Reader()
    reader.feed(page)
    reader.close()

    assert reader.open == []
    assert (reader.tags.count("h1"), reader.tags.count("script"), reader.tags.count("link"), reader.tags.count("img")) == (1, 0, 0, 0)
    assert not {name for name, _ in reader.attributes} & {"src", "href", "style", "onclick"}
    assert any(HOSTILE in text for text in reader.text)
    assert "ab" * 32 in page


def test_the_page_says_each_statement_of_the_report() -> None:
    """Every grade, sentence, detail and piece of evidence."""
    made = a_report(well(drills=(a_drill(ok=False, failures=(Finding(where="db", message="was not ready"),)),)))
    reader = _Reader()
    reader.feed(render(made, json_name="r.json", json_digest="ab" * 32))
    text = " ".join(" ".join(reader.text).split())

    for part in (*made.policies, *made.clusters):
        for one in part.statements:
            assert all(" ".join(words.split()) in text for words in (one.said, *one.details, *one.evidence))
