"""Metrics: computed from the catalog, written as Prometheus reads them, and known to the dashboard and the alerts."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from becalm.actions.metrics import CONTENT_TYPE, HELP, Family, Sample, families, render
from becalm.actions.objectives import Facts, Proven, status, unreachable
from becalm.catalog.epochs import Epoch
from becalm.catalog.history import RunRecord
from becalm.cli.metrics import Page, address, make_server
from becalm.errors import UsageError
from becalm.model import Finding
from becalm.testing.builders import NOON, a_point, a_policy, hours
from becalm.testing.fake_clock import FakeClock

DEPLOY = Path(__file__).parents[2] / "deploy"
LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


def read(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read Prometheus's text strictly: a line that is not of its form is an error."""
    found = {}
    for line in text.split("\n")[:-1]:
        if line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        assert match, line
        labels = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or "")
        unescaped = {(name, re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value)) for name, value in labels}
        found[match[1], frozenset(unescaped)] = float(match[3])
    return found


def written() -> str:
    """Return the metrics, as text, of a policy of which all is known, and of one of which nothing is."""
    run = RunRecord(
        run="r", run_id="id", trigger="manual", started=NOON - hours(1), ended=NOON, ok=True, bytes_total=9, bytes_added=2,
        frozen={"shop": 0.5}, tasks={"commit": 2},
    )  # fmt: skip
    facts = Facts(
        now=NOON, points=(a_point(cut=NOON - hours(1)),), runs=(run,), epochs=(Epoch(since=NOON - hours(3), schedule="@hourly"),),
        repository_bytes=1000, drill=Proven(time=NOON, ok=True, seconds=60),
    )  # fmt: skip
    shop = status(a_policy(schedule="@hourly", objectives={"rpo": "2h", "rto": "15m"}), facts)
    dark = unreachable(a_policy(name="dark"), Finding(where="s3://b", message="no"), now=NOON)
    return render(families([shop, dark], broken=1))


def whole() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the same, read back."""
    return read(written())


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_a_policy_that_is_known_has_all_its_metrics() -> None:
    """The age, the objective, slots, the last run, and the drill."""
    found = whole()

    assert found[of("becalm_policy_last_good_point_age_seconds", policy="shop")] == 3600
    assert found[of("becalm_policy_objective_met", policy="shop")] == 1
    assert found[of("becalm_freeze_seconds", policy="shop", application="shop")] == 0.5
    assert found[of("becalm_task_seconds", policy="shop", task="commit")] == 2
    assert found[of("becalm_drill_success", policy="shop")] == 1
    assert found[of("becalm_policies_broken")] == 1


def test_prometheus_itself_reads_the_same() -> None:
    """Each metric is a gauge, stands once, and says what it means; both readers agree on every sample."""
    text = written()
    parsed = list(text_string_to_metric_families(text))
    samples = {(one.name, frozenset(one.labels.items())): one.value for family in parsed for one in family.samples}

    assert {family.type for family in parsed} == {"gauge"}
    assert {family.name: family.documentation for family in parsed}.items() <= HELP.items()
    assert len({family.name for family in parsed}) == len(parsed)
    assert samples == read(text)
    assert len(samples) > 20


def test_nothing_of_the_process_is_among_the_metrics() -> None:
    """A metric that dies with a process would say something else after each restart."""
    assert render([]) == ""


def test_what_is_not_known_has_no_sample() -> None:
    """Which is not the same as zero: an alert sees that it is absent, and that the policy is not reached."""
    found = whole()

    assert found[of("becalm_policy_reached", policy="dark")] == 0
    assert of("becalm_policy_last_good_point_age_seconds", policy="dark") not in found
    assert not [key for key in found if key[0] == "becalm_policy_slots" and ("policy", "dark") in key[1]]


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_label_and_any_value_come_back_as_they_were(label: str, value: float) -> None:
    """Names are chosen by others."""
    text = render([Family(name="becalm_x", help="h", samples=(Sample(value=value, labels={"application": label}),))])

    assert text.endswith("\n")
    assert list(read(text).items()) == [(of("becalm_x", application=label), value)]


def test_the_server_answers_at_one_place() -> None:
    """And computes again only where its answer is no longer fresh."""
    page = Page(policies=[], fresh_seconds=30, sizes=False, clock=FakeClock())
    server = make_server("127.0.0.1", 0, page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with urllib.request.urlopen(f"{base}/metrics", timeout=10) as answer:
            body, kind = answer.read().decode(), answer.headers["Content-Type"]
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{base}/", timeout=10)
        missing.value.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert read(body)[of("becalm_policies")] == 0
    assert (kind, missing.value.code) == (CONTENT_TYPE, 404)


@pytest.mark.parametrize("text", ["9187", "host:", ":1", "a:b", "h:70000"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    """With how to write it."""
    with pytest.raises(UsageError, match="is no address"):
        address(text)


def expressions() -> list[tuple[str, str]]:
    """Return every query of the dashboard and of the alert rules."""
    board: dict[str, Any] = json.loads((DEPLOY / "grafana" / "becalm.json").read_text())
    rules: dict[str, Any] = yaml.safe_load((DEPLOY / "alerts" / "becalm.rules.yaml").read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", ())]
    return found + [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(("where", "query"), expressions())
def test_the_dashboard_and_the_alerts_ask_for_metrics_that_exist(where: str, query: str) -> None:
    """One that does not exist would never show, and never fire."""
    names = set(re.findall(r"\bbecalm_[a-z_]+", query))

    assert names, where
    assert names <= set(HELP)


def test_every_alert_says_what_to_do_and_where_it_is_told() -> None:
    """Severity, what is at risk, and a remedy; each names the policy."""
    rules = yaml.safe_load((DEPLOY / "alerts" / "becalm.rules.yaml").read_text())["groups"][0]["rules"]

    assert len(rules) >= 6
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description", "remedy"} <= set(rule["annotations"])


def test_an_age_grows_between_two_answers() -> None:
    """It is computed from the catalog at each, and not counted by a process."""
    ages = [status(a_policy(), Facts(now=NOON + timedelta(minutes=minute), points=(a_point(cut=NOON),))).age for minute in (0, 5)]

    assert ages == [timedelta(0), timedelta(minutes=5)]
