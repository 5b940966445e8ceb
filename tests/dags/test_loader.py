"""The folder of policies becomes DAGs, each on its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow.loader import find_policy, policies_folder, policy_dags, policy_names

DAGS = Path(__file__).parents[2] / "dags"

BROKEN = {
    "not-yaml": b"spec: [unclosed",
    "not-text": b"\xff\xfe\x00binary",
    "empty": b"",
    "a-list": b"- one\n- two\n",
    "unknown-key": b"apiVersion: becalm.dev/v1\nkind: ProtectionPolicy\nmetadata: {name: odd}\nspec: {colour: red}\n",
    "too-large": b"# " + b"x" * 1_100_000,
    "bomb": b"a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n",
    "with space": b"nonsense",
    "ünï*": b"nonsense",
    "markdown": b"`</pre><script>alert(1)</script>`: {{ params }} {% raise %}\n",
}


def test_policy_files_are_dags(folder: Path, policy_text: Callable[..., str]) -> None:
    """Each file gives one DAG, called after the policy's name."""
    (folder / "anything.yml").write_text(policy_text("blog"))
    (folder / "notes.txt").write_text("not a policy")

    assert sorted(policy_dags(folder)) == ["becalm_policy_blog", "becalm_policy_shop"]
    assert policy_names(folder) == ["blog", "shop"]


@pytest.mark.parametrize("stem", BROKEN)
def test_a_broken_policy_stands_alone_and_says_what_is_wrong(folder: Path, stem: str) -> None:
    """Whatever is in a file, the sound policy beside it is a DAG, and the broken one is a DAG that can be stored and shows its error."""
    (folder / f"{stem}.yaml").write_bytes(BROKEN[stem])
    dags = policy_dags(folder)
    broken = [dag for name, dag in dags.items() if name.startswith("becalm_error_")]

    assert "becalm_policy_shop" in dags
    assert len(broken) == 1
    assert "invalid" in broken[0].tags
    assert "cannot be followed" in broken[0].doc_md
    DagSerialization.to_dict(broken[0])


def test_two_policies_of_one_name_are_both_broken(folder: Path, policy_text: Callable[..., str]) -> None:
    """Which of them would run is not for us to guess."""
    (folder / "other.yaml").write_text(policy_text("shop"))
    (folder / "blog.yaml").write_text(policy_text("blog"))

    assert sorted(policy_dags(folder)) == ["becalm_error_other", "becalm_error_shop", "becalm_policy_blog"]


def test_files_with_similar_names_do_not_share_a_dag(folder: Path) -> None:
    """What is not allowed in the id of a DAG is replaced, and the id stays different."""
    for stem in ("a b", "a*b", "a_b"):
        (folder / f"{stem}.yaml").write_text("nonsense")

    assert len([name for name in policy_dags(folder) if name.startswith("becalm_error_a_b")]) == 3


def test_a_broken_policy_alerts_at_once_and_again(folder: Path) -> None:
    """Its DAG is active when it appears, has its first run at once, and one every hour."""
    (folder / "shop.yaml").write_text("nonsense")
    dag = policy_dags(folder)["becalm_error_shop"]
    stored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    first = stored.next_dagrun_info(last_automated_run_info=None)

    assert dag.is_paused_upon_creation is False
    assert first is not None
    assert first.run_after.timestamp() <= time.time()


def test_a_missing_folder_is_a_dag_that_says_so(tmp_path: Path) -> None:
    """An installation without its policies is not silent."""
    dags = policy_dags(tmp_path / "gone")

    assert list(dags) == ["becalm_error_gone"]
    assert "cannot be read" in dags["becalm_error_gone"].doc_md


def test_a_starting_task_reads_its_own_policy_only(folder: Path) -> None:
    """The DAG that Airflow asks for is made, and no other."""
    (folder / "broken.yaml").write_text("nonsense")

    assert list(policy_dags(folder, only="becalm_policy_shop")) == ["becalm_policy_shop"]
    assert list(policy_dags(folder, only="becalm_error_broken")) == ["becalm_error_broken"]
    assert policy_dags(folder, only="somebody_elses") == {}


def test_a_starting_task_finds_its_policy_in_a_file_of_another_name(folder: Path, policy_text: Callable[..., str]) -> None:
    """The name inside the file decides; a file that is called after the policy but holds another one is passed over."""
    (folder / "zzz.yaml").write_text(policy_text("blog"))
    (folder / "blog.yaml").write_text(policy_text("blog-two"))
    found = find_policy(folder, "blog")

    assert found is not None
    assert found[0].name == "zzz.yaml"


def test_a_task_of_a_removed_policy_still_finds_its_dag(folder: Path) -> None:
    """A run that began with the policy can thaw and finish: the DAG has the same tasks."""
    before = policy_dags(folder)["becalm_policy_shop"]
    (folder / "shop.yaml").unlink()
    after = policy_dags(folder, only="becalm_policy_shop")["becalm_policy_shop"]

    assert after.task_dict.keys() == before.task_dict.keys()
    assert "becalm_policy_shop" not in policy_dags(folder)


def test_the_environment_names_the_folder(tmp_path: Path) -> None:
    """BECALM_POLICIES wins over the folder beside the DAG's file."""
    assert policies_folder(beside=Path("/dags/becalm_policies.py")) == Path(os.environ["BECALM_POLICIES"])


def test_the_dag_files_import_without_errors(folder: Path) -> None:
    """Airflow's own reading of dags/ finds the policies, the restore and the reaper, and no error."""
    for file in folder.iterdir():
        (Path(os.environ["BECALM_POLICIES"]) / file.name).write_bytes(file.read_bytes())
    bag = DagBag(dag_folder=str(DAGS), bundle_path=DAGS, bundle_name="test")

    assert bag.import_errors == {}
    assert set(bag.dag_ids) == {
        "becalm_coverage",
        "becalm_drift",
        "becalm_drill",
        "becalm_policy_shop",
        "becalm_reaper",
        "becalm_restore",
        "becalm_rpo",
    }


PARSE = """
import json, sys, time
import airflow.sdk
from airflow.serialization.serialized_objects import DagSerialization
import airflow.dag_processing.processor
before = set(sys.modules)
started = time.perf_counter()
import runpy
found = runpy.run_path(sys.argv[1])
spent = time.perf_counter() - started
dags = [name for name in found if name.startswith("becalm_")]
heavy = ("kubernetes", "kubernetes_asyncio", "boto3", "botocore", "numpy", "typer", "rich")
new = {name for name in sys.modules if name not in before}
print(json.dumps({
    "dags": dags,
    "heavy": sorted(name for name in sys.modules if name.split(".")[0] in heavy[:4] or (name in new and name.split(".")[0] in heavy)),
    "providers": sorted(name for name in sys.modules if name.startswith(("airflow.providers.cncf.kubernetes.operators", "airflow.providers.cncf.kubernetes.hooks", "airflow.providers.amazon"))),
    "engine": sorted(name for name in new if name.startswith(("becalm.repository.", "becalm.kube", "becalm.storage", "becalm.quiesce", "becalm.cli"))),
    "seconds": spent,
}))
"""


def test_a_parse_reads_policies_and_imports_nothing_heavy(folder: Path) -> None:
    """Neither a client of Kubernetes or S3, nor a provider's operator, nor the engine is imported by parsing."""
    environment = {**os.environ, "BECALM_POLICIES": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(DAGS / "becalm_policies.py")],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])

    assert report["dags"] == ["becalm_policy_shop"]
    assert (report["heavy"], report["providers"], report["engine"]) == ([], [], [])
