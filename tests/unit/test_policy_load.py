"""From a file to a policy, or to everything that is wrong with it at once."""

from __future__ import annotations

import copy
import json
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.errors import EXIT_CODES, PolicyError, exit_code
from becalm.model import VolumeUse
from becalm.policy.blueprints import BlueprintName
from becalm.policy.load import json_schema, load, load_file, load_folder, sample
from becalm.policy.spec import ClusterScope, LockMode, Missed, OnFailure, ProtectionPolicy, QuiesceScope
from becalm.testing.builders import a_policy, a_policy_document

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {name: shop}
spec:
  select: {namespaces: [shop]}
  target: {url: "s3://backups/prod", password: "env:BECALM_PASSWORD"}
"""


def refusal(text: str | bytes) -> list[str]:
    """Load a text that is wrong, and return its findings as a person reads them."""
    with pytest.raises(PolicyError) as refused:
        load(text, source="policy.yaml")
    return [str(finding) for finding in refused.value.findings]


def with_spec(lines: str) -> str:
    return MINIMAL + "".join(f"  {line}\n" for line in lines.splitlines())


# --- what is understood ---------------------------------------------------------------------------------------------------


def test_a_minimal_policy_has_sensible_defaults() -> None:
    """By hand only, everything in the namespace, snapshots, thirty seconds of stillness, nothing deleted."""
    spec = load(MINIMAL, source="x").spec

    assert (spec.schedule, spec.timezone, spec.cluster, spec.retention) == (None, "UTC", "kubernetes_default", None)
    assert (spec.select.resources.include, spec.select.cluster_scoped, spec.select.labels) == (("*",), ClusterScope.AUTO, None)
    assert (spec.volumes.default, spec.quiesce.scope, spec.quiesce.on_failure) == (
        VolumeUse.SNAPSHOT,
        QuiesceScope.APPLICATION,
        OnFailure.CRASH_CONSISTENT,
    )
    assert (spec.quiesce.timeout, spec.missed, spec.target.lock) == (timedelta(seconds=30), Missed.LATEST, None)


def test_the_whole_language_is_understood() -> None:
    """Every key of the sample, in its typed form."""
    spec = load(sample(), source="sample").spec
    rule, hook = spec.volumes.rules[0], spec.quiesce.hooks[0]

    assert (spec.objectives.rpo, spec.objectives.rto) == (timedelta(hours=2), timedelta(minutes=15))
    assert (spec.select.namespaces, spec.select.labels) == (("shop", "shop-*"), ("tier!=scratch",))
    assert (rule.match.storage_class, rule.match.size_over, rule.use) == ("scratch", 500 * 2**30, VolumeUse.SKIP)
    assert (hook.select.labels, hook.timeout, hook.command.freeze if hook.command else None) == (
        "app=orders-db",
        timedelta(seconds=20),
        ("/usr/local/bin/pause-writes",),
    )
    assert (spec.target.lock.mode, spec.target.lock.days) == (LockMode.COMPLIANCE, 14) if spec.target.lock else False
    assert (spec.retention.yearly, spec.retention.within) == (3, timedelta(days=2)) if spec.retention else False
    assert spec.target.repository_url("shop") == "s3://backups/prod/shop"


def test_the_sample_shows_every_section() -> None:
    """Who begins with it has seen them all."""
    known = set(json_schema()["$defs"]["PolicySpec"]["properties"])

    assert set(yaml.safe_load(sample())["spec"]) == known


def test_the_digest_is_of_what_a_policy_says_and_not_of_how() -> None:
    """Order, comments, units and spelled-out defaults do not count; anything else does."""
    plain = load(MINIMAL, source="x")
    other_words = load(with_spec("# a comment\nmissed: latest\nquiesce: {timeout: 0m30s}\nschedule: null"), source="y")

    assert plain.digest == other_words.digest
    assert plain.digest != load(with_spec("missed: all"), source="z").digest
    assert re.fullmatch("[0-9a-f]{64}", plain.digest)


def test_a_policy_survives_being_written_as_json_and_read() -> None:
    """As a recovery point keeps it."""
    policy = load(sample(), source="sample")
    document = json.dumps(policy.model_dump(mode="json", by_alias=True, exclude_none=True))

    assert load(document, source="recovery-point.json") == policy


@pytest.mark.parametrize("text", ["no", "on", "yes", "12:30:00", "2026-01-01", "1.0", "0755", "1e3", "0x1F"])
def test_what_other_readers_take_for_something_else_is_a_text(text: str) -> None:
    """YAML 1.1 makes false, a number or a date of each of these."""
    because = (
        load(with_spec(f"volumes: {{rules: [{{match: {{claim: a}}, use: skip, because: {text}}}]}}"), source="x")
        .spec.volumes.rules[0]
        .because
    )

    assert because == text


def test_a_byte_order_mark_and_crlf_are_no_accident() -> None:
    """Some editors write them."""
    assert load(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode(), source="x").name == "shop"


def test_an_alias_stands_for_its_value() -> None:
    """As long as it is few values."""
    text = with_spec(
        "quiesce:\n  annotations: &mine [shop]\n  hooks:\n    - {select: {namespaces: *mine, labels: a}, command: {freeze: [a], thaw: [b]}}"
    )

    assert load(text, source="x").spec.quiesce.hooks[0].select.namespaces == ("shop",)


# --- what is refused ------------------------------------------------------------------------------------------------------

SPEC = [
    # keys
    ("scedule: '@daily'", ["spec.scedule: no such key is known here (line 7); write schedule"]),
    ("time_zone: UTC", ["spec.time_zone: no such key is known here (line 7); write timezone"]),
    ("quiesce: {on_failure: fail}", ["spec.quiesce.on_failure: no such key is known here (line 7); write onFailure"]),
    ("objectives: {mtbf: 1h}", ["spec.objectives.mtbf: no such key is known here (line 7); remove it, or write one of: rpo, rto"]),
    ("missed: all\nmissed: latest", ["spec.missed: the key is written twice, first in line 7 (line 8); keep one of the two"]),
    # kinds of values
    ("schedule: 5", ["spec.schedule: a text is wanted, and this is a number (line 7); put it in quotes"]),
    ("cluster: true", ["spec.cluster: a text is wanted, and this is true or false (line 7); put it in quotes"]),
    ("retention: 3", [
        ("spec.retention: a mapping of keys is wanted, and this is a number (line 7); "
        "write keys below it: last, hourly, daily, weekly, monthly, yearly, within")
    ]),
    ("volumes:", ["spec.volumes: a mapping of keys is wanted, and this is empty (line 7); write keys below it: default, rules, anomalies"]),
    ("missed: some", ['spec.missed: "some" is not one of the values that are known here (line 7); write latest or all']),
    ("missed: [all]", ["spec.missed: a list is not one of the values that are known here (line 7); write latest or all"]),
    # time and amounts
    ("schedule: '0 25 * * *'", [
        ('spec.schedule: 25 cannot be the hour: it goes from 0 to 23 (line 7); '
        'write five fields, minute hour day month weekday, such as "0 2 * * *", or @hourly, @daily, @weekly, @monthly')
    ]),
    ("timezone: Mars/Olympus", [
        'spec.timezone: "Mars/Olympus" is no time zone that this machine knows (line 7); write a name of the IANA list, such as Europe/Zurich or UTC'
    ]),
    ("objectives: {rpo: 60}", [
        "spec.objectives.rpo: a length of time needs its unit (line 7); write whole numbers with w, d, h, m, s, the largest first: 30s, 15m, 1h30m, 14d"
    ]),
    ("quiesce: {timeout: 11m}", ["spec.quiesce.timeout: an application would be frozen for up to 11m (line 7); write at most 10m"]),
    # volumes
    ("volumes:\n  rules:\n    - {match: {sizeOver: 5GB}, use: skip}", [
        ('spec.volumes.rules.0.match.sizeOver: "5GB" is not an amount of bytes (line 9); '
        "write a number with Ki, Mi, Gi, Ti (powers of 1024) or k, M, G, T (powers of 1000): 500Gi"),
        'spec.volumes.rules.0.because: a volume is skipped without a reason (line 9); add because: "…", a sentence that a reader will understand in a year',
    ]),
    ("volumes: {rules: [{match: {claim: a}, use: live, snapshotClass: fast}]}", [
        "spec.volumes.rules.0.snapshotClass: a volume that is not cut needs no snapshot class (line 7); remove snapshotClass, or write use: snapshot"
    ]),
    ("volumes: {rules: [{match: {claim: a}, use: snapshot, snapshotClass: 'fast-*'}]}", [
        "spec.volumes.rules.0.snapshotClass: a snapshot class is named, not matched (line 7); write the name of one VolumeSnapshotClass"
    ]),
    ("volumes: {rules: [{match: {}, use: live}]}", ["spec.volumes.rules.0.match: the rule matches every volume (line 7); write what it matches, or change volumes.default"]),
    ("volumes: {rules: [{match: {sizeOver: 2Gi, sizeUnder: 1Gi}, use: live}]}", [
        "spec.volumes.rules.0.match.sizeUnder: no volume is larger than sizeOver and smaller than sizeUnder (line 7); let sizeOver be less than sizeUnder"
    ]),
    ("volumes: {rules: [{match: {labels: a b}, use: live}]}", [
        ('spec.volumes.rules.0.match.labels: "a b" is not the key of a label (line 7); '
        'write terms such as "app=web", "app!=web", "tier in (db, cache)", "tier notin (db)", "app", "!app", with commas for AND')
    ]),
    # hooks
    ("quiesce:\n  hooks:\n    - {select: {}, command: {freeze: [a], thaw: [b]}}", [
        "spec.quiesce.hooks.0.select.pod: it must be said in which pods this runs, and in one way (line 9); write either labels or pod"
    ]),
    ("quiesce:\n  hooks:\n    - {select: {pod: a}}", ["spec.quiesce.hooks.0.command: it must be said what the hook does, and in one way (line 9); write use: and a blueprint, or command: {freeze: […], thaw: […]}"]),
    ("quiesce: {hooks: [{select: {pod: a}, command: {freeze: [a], thaw: [b]}, timeout: 31s}]}", [
        "spec.quiesce.hooks: hook 0 may take longer than quiesce.timeout (line 7); write at most 30s as its timeout"
    ]),
    ("quiesce: {hooks: [{select: {pod: a}, command: {freeze: [], thaw: b}}]}", [
        ("spec.quiesce.hooks.0.command.freeze: the list is empty (line 7); write at least 1, or leave the key out where it is optional. "
        "The program and its arguments that still the application; it ends once all is still."),
        ("spec.quiesce.hooks.0.command.thaw: a list is wanted, and this is a text (line 7); write [a, b], or one item per line after a dash. "
        "The program and its arguments that let it go on. It may run more than once, also without a freeze."),
    ]),
    # retention
    ("retention: {}", ["spec.retention: no rule says what to keep (line 7); write at least one, such as daily: 14; or remove retention to keep everything"]),
    ("retention: {daily: 0}", ["spec.retention.daily: the number is less than 1 (line 7); write 1 or more, or leave the key out"]),
    ("retention: {daily: '7'}", ["spec.retention.daily: this is not a whole number (line 7); write a number without quotes, such as 7"]),
    # what this version does not do
    # drills
    ("drill: {timeout: 5m, ready: 10m}", ["spec.drill: ready is longer than timeout (line 7); write at most 5m as ready"]),
    ("drill: {timeout: 8d}", ["spec.drill: a drill would take up to 8d (line 7); write at most 7d as timeout"]),
    ("drill: {checks: [{select: {}, command: [pg_isready]}]}", [
        "spec.drill.checks.0.select.pod: it must be said in which pods this runs, and in one way (line 7); write either labels or pod",
    ]),
    ("quiesce: {hooks: [{select: {pod: a}, use: sqlite3, with: {a: b}}]}", [
        'spec.quiesce.hooks.0.use: "sqlite3" is not one of the values that are known here (line 7); write ' + " or ".join(BlueprintName),
    ]),
    ("quiesce: {hooks: [{select: {pod: a}, use: postgresql, with: {rolle: a, role: -b}}]}", [
        'spec.quiesce.hooks.0.with: the blueprint postgresql has no parameter "rolle" (line 7); write role',
    ]),
    ("quiesce: {hooks: [{select: {pod: a}, use: postgresql, with: {role: -b, port: 70000}}]}", [
        "spec.quiesce.hooks.0.with.role: this cannot be a name or an address (line 7); write one line of text that does not begin with a dash",
        "spec.quiesce.hooks.0.with.port: the number is more than 65535 (line 7); write 65535 or less",
    ]),
    ("quiesce: {hooks: [{select: {pod: a}, command: {freeze: [a], thaw: [b]}, with: {role: b}}]}", [
        "spec.quiesce.hooks.0.with: these are parameters, and no blueprint is named (line 7); write use: and the name of a blueprint, or remove them",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), SPEC, ids=[lines.replace("\n", " ") for lines, _ in SPEC])
def test_each_mistake_in_a_policy_has_its_place_and_its_remedy(lines: str, expected: list[str]) -> None:
    """Dotted path, what is wrong, the line, and what to write."""
    assert refusal(with_spec(lines)) == expected


def test_all_mistakes_are_named_at_once() -> None:
    """One round of corrections is enough."""
    found = refusal(
        "apiVersion: becalm.dev/v2\nkind: ProtectionPolicy\nmetadata: {name: Shop_1, labels: {}}\n"
        "spec:\n  select: {namespaces: []}\n  target: {url: 'ftp://x'}\n  schedule: daily\n  drift: {schedule: nightly}\n"
    )

    assert [line.split(": ")[0] for line in found] == [
        "apiVersion",
        "metadata.name",
        "metadata.labels",
        "spec.schedule",
        "spec.select.namespaces",
        "spec.target.url",
        "spec.target.password",
        "spec.drift.schedule",
    ]


TEXTS = [
    ("", "file: the file is empty; `becalm policy sample` prints a policy to begin with"),
    ("# nothing\n", "file: the file is empty; `becalm policy sample` prints a policy to begin with"),
    ("~", "file: the file is empty; `becalm policy sample` prints a policy to begin with"),
    ("- a", "file: the file does not hold a mapping of keys; `becalm policy sample` prints a policy to begin with"),
    ("kind: Deployment\nspec: {}", 'kind: this is a "Deployment", not a policy (line 1); write ProtectionPolicy'),
    ("a: 1\n---\nb: 2\n", "file: a second document begins (line 2); write one policy per file"),
    ("a: [1\nb: 2\n", "file: this is not YAML: did not find expected ',' or ']' (line 2, column 2); look at the indentation, quotes and brackets there and above"),
    ("a:\n\t- b", "file: this is not YAML: found character that cannot start any token (line 2, column 1); look at the indentation, quotes and brackets there and above"),
    ("a: \x07", "file: this is not YAML: control characters are not allowed; look at the indentation, quotes and brackets there and above"),
    (b"a: \xff", "file: the text is not UTF-8 (byte 4); save the file as UTF-8"),
    ("a: \ud800", "file: the text is not UTF-8; save the file as UTF-8"),
    ("a: " + "x" * (1 << 20), "file: the file is larger than 1 MiB; a policy is a page of text; look whether this is the right file"),
    ("[" * 100_000, "file: the nesting is deeper than 32 levels (line 1); no policy needs that"),
    ("a: " + "{b: " * 5_000, "file: the nesting is deeper than 32 levels (line 1); no policy needs that"),
    ("- " * 5_000 + "a", "file: the nesting is deeper than 32 levels (line 1); no policy needs that"),
    ("a: [" + "1," * 30_000 + "]", "file: the file comes to more than 20000 values (line 1); write less, and use fewer aliases"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=[repr(text[:20]) for text, _ in TEXTS])
def test_a_text_that_is_no_policy_file_has_one_finding(text: str | bytes, expected: str) -> None:
    """And never a traceback, however deep or long it is."""
    assert refusal(text) == [expected]


TRAPS = [
    (
        "a: !!python/object/apply:os.system [id]",
        'a: the tag "tag:yaml.org,2002:python/object/apply:os.system" is not read (line 1); remove the tag; put a text in quotes',
    ),
    ("a: !!binary aGk=", 'a: the tag "tag:yaml.org,2002:binary" is not read (line 1); remove the tag; put a text in quotes'),
    ("a: *b", 'a: the alias "*b" refers to nothing above it, or to itself (line 1); write the value out'),
    ("a: &b [*b]", 'a.0: the alias "*b" refers to nothing above it, or to itself (line 1); write the value out'),
    ("a: &b {}\nc: {<<: *b}", 'c."<<": merge keys are not read (line 2); write the keys out'),
    ("? [a, b]\n: c", "file: a key is not a text (line 1); write a plain key"),
    ("a: {b: 1, b: 2}", "a.b: the key is written twice, first in line 1 (line 1); keep one of the two"),
]


@pytest.mark.parametrize(("text", "expected"), TRAPS, ids=[text for text, _ in TRAPS])
def test_a_trap_of_yaml_is_a_finding(text: str, expected: str) -> None:
    """Nothing is constructed, executed or merged."""
    assert expected in refusal(text)


@pytest.mark.parametrize("width", [2, 10, 100])
@pytest.mark.parametrize("shape", ["[{}]", "{{a: [{}]}}"])
@pytest.mark.parametrize("depth", [12, 25])
def test_a_bomb_of_aliases_does_not_go_off(width: int, shape: str, depth: int) -> None:
    """A few lines that would come to billions of values."""
    lines = ["a0: &a0 boom"]
    lines += [f"a{level}: &a{level} " + shape.format(",".join([f"*a{level - 1}"] * width)) for level in range(1, depth)]

    assert any("more than 20000 values" in line for line in refusal("\n".join(lines))) or width ** (depth - 1) < 20_000


def test_findings_beyond_a_hundred_are_counted() -> None:
    """A person reads no more."""
    found = refusal(MINIMAL + "".join(f"x{number}: 1\n" for number in range(500)))

    assert len(found) == 101
    assert found[-1] == "file: and 400 more findings; mend these first"


URLS = [
    "s3://AKIA:hunter2@bucket/x",
    "https://u:hunter2@h/x",
    "s3://bucket/x?secret=hunter2",
    "s3:/u:hunter2@bucket",
    "s3://b/x#hunter2",
    "s3://[hunter2/x",
    "file://u:hunter2@/x",
]
PASSWORDS = ["hunter2!", "hunter2 with blanks", "env:hunter2!", "file:hunter2", "https://hunter2"]


@pytest.mark.parametrize(("key", "value"), [("url", url) for url in URLS] + [("password", text) for text in PASSWORDS])
def test_no_finding_repeats_what_may_be_a_secret(key: str, value: str) -> None:
    """Findings go to logs and to a screen."""
    document = a_policy_document()
    document["spec"]["target"][key] = value
    found = refusal(json.dumps(document))

    assert [line.split(":")[0] for line in found] == [f"spec.target.{key}"]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "url",
    [
        "s3://b",
        "s3:///x",
        "S3://Bucket/x",
        "s3://bucket/../x",
        "s3://bucket//x",
        "file://relative/x",
        "file:///",
        "file:///a/./b",
        "/tmp/x",
        "s3://bucket/a b",
        "gs://bucket/x",
    ],
)
def test_a_target_is_a_bucket_or_an_absolute_folder(url: str) -> None:
    """Nothing that two readers could take for two places."""
    with pytest.raises(PolicyError):
        load(json.dumps(a_policy_document(target={"url": url, "password": "env:X"})), source="x")


@pytest.mark.parametrize(
    ("url", "repository"),
    [
        ("s3://bkt", "s3://bkt/shop"),
        ("s3://bkt/", "s3://bkt/shop"),
        ("s3://bkt/a/b/", "s3://bkt/a/b/shop"),
        ("file:///srv/b/", "file:///srv/b/shop"),
    ],
)
def test_the_repository_stands_below_the_target_under_the_policys_name(url: str, repository: str) -> None:
    """One slash, whatever the author wrote."""
    policy = a_policy(target={"url": url, "password": "env:X"})

    assert policy.spec.target.repository_url(policy.name) == repository


def test_a_folder_cannot_be_locked() -> None:
    """Object lock is a bucket's."""
    target = {"url": "file:///srv/b", "password": "env:X", "lock": {"days": 3}}

    assert refusal(json.dumps(a_policy_document(target=target))) == [
        "spec.target.lock: a folder cannot lock what is in it (line 1); remove lock, or use a bucket that has object lock"
    ]


@pytest.mark.parametrize("name", ["", "Shop", "-shop", "shop-", "a" * 41, "shop.eu", "shop_eu", "café", "a/b", ".."])
def test_a_policys_name_is_a_short_dns_label(name: str) -> None:
    """It becomes a folder, a label and a DAG."""
    assert [line.split(":")[0] for line in refusal(json.dumps(a_policy_document(name=name)))] == ["metadata.name"]


# --- files ----------------------------------------------------------------------------------------------------------------


def test_a_folder_gives_a_policy_or_an_error_for_each_file(tmp_path: Path) -> None:
    """One bad file harms no other; hidden and other files are passed over."""
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "b.yml").write_text("a: [")
    (tmp_path / "c.yaml").mkdir()
    (tmp_path / "d.yaml").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "e.yaml")
    (tmp_path / ".f.yaml").write_text("a: [")
    (tmp_path / "g.txt").write_text("a: [")
    found = load_folder(tmp_path)

    assert {path.name: isinstance(answer, ProtectionPolicy) for path, answer in found.items()} == {
        "a.yaml": True, "b.yml": False, "c.yaml": False, "d.yaml": False, "e.yaml": False,
    }  # fmt: skip
    assert all(answer.where == str(path) and answer.findings for path, answer in found.items() if isinstance(answer, PolicyError))


def test_a_name_used_twice_makes_both_files_bad(tmp_path: Path) -> None:
    """They would write into one repository; nobody can say which is meant."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(MINIMAL)
    (tmp_path / "c.yaml").write_text(MINIMAL.replace("shop}", "cart}"))
    found = {path.name: str(answer) for path, answer in load_folder(tmp_path).items() if isinstance(answer, PolicyError)}

    assert set(found) == {"a.yaml", "b.yaml"}
    assert '"shop" is also the name of the policy in b.yaml' in found["a.yaml"]


def test_a_folder_that_is_not_there_is_an_error_and_not_an_empty_answer(tmp_path: Path) -> None:
    """Silence would look like no policies."""
    with pytest.raises(PolicyError, match="the folder cannot be read: No such file or directory"):
        load_folder(tmp_path / "none")


def test_a_file_that_never_ends_is_refused(tmp_path: Path) -> None:
    """A device is no file, and a huge file is read no further than its limit."""
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(PolicyError, match="larger than 1 MiB"):
        load_file(huge)
    with pytest.raises(PolicyError, match="not a regular file"):
        load_file(type(huge)("/dev/zero"))


def test_an_error_of_a_policy_has_its_exit_code() -> None:
    """Three, for every finding."""
    with pytest.raises(PolicyError) as refused:
        load("", source="x")

    assert exit_code(refused.value) == EXIT_CODES[PolicyError] == 3


# --- whatever comes -------------------------------------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(
    ["*", "shop", "1h", "5Gi", "@daily", "0 0 31 2 *", "UTC", "skip", "all", "a in (b", "s3://b", "\0", "{}", "%s {problem}", "x" * 3000]
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.just("labels"), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


FULL = yaml.safe_load(sample())
PLACES = [path for path in places(FULL) if path]


def survives(text: str | bytes) -> None:
    """A policy comes out, or a PolicyError that says what to mend."""
    try:
        policy = load(text, source="x")
    except PolicyError as error:
        said = str(error)
        assert error.findings
        assert all(finding.path and finding.problem for finding in error.findings)
        assert not re.search(r"pydantic|Traceback|Input should|https://errors|is not printable", said)
        assert len(said.splitlines()) == 1 + len(error.findings)
    else:
        assert load(json.dumps(policy.model_dump(mode="json", by_alias=True, exclude_none=True)), source="y") == policy


@given(st.data())
@settings(deadline=None)
def test_a_policy_with_anything_anywhere_is_understood_or_refused_in_words(data: st.DataObject) -> None:
    """Values replaced, removed and added at random places."""
    document = copy.deepcopy(FULL)
    for path in data.draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        here: Any = document
        try:
            for part in path[:-1]:
                here = here[part]
            match data.draw(st.sampled_from(["replace", "remove", "add"])):
                case "replace":
                    here[path[-1]] = data.draw(values)
                case "remove":
                    del here[path[-1]]
                case _:
                    here[path[-1]][data.draw(st.text(max_size=6))] = data.draw(values)
        except (KeyError, IndexError, TypeError):
            continue

    survives(json.dumps(document))


@given(st.binary(max_size=200) | st.text(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t", max_size=80))
@settings(deadline=None)
def test_any_bytes_are_refused_in_words(text: bytes | str) -> None:
    """Whatever a file may hold."""
    survives(text)


@given(st.integers(0, len(sample())), st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t\0", max_size=6), st.integers(0, 40))
@settings(deadline=None)
def test_a_damaged_sample_is_understood_or_refused_in_words(place: int, inserted: str, removed: int) -> None:
    """A slip of the editor anywhere in the file."""
    survives(sample()[:place] + inserted + sample()[place + removed :])
