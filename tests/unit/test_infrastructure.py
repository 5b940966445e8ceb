"""The code in a recovery point: unchanged it is taken over, changed it is fetched, lost it stays as it was and is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.git_scenes import Code, served
from tests.unit.run_scenes import DATA, Scene, a_cut, a_thaw, an_export, discovered
from tests.unit.test_commit import a_result
from typer.testing import CliRunner

from becalm.actions import commit, infrastructure
from becalm.actions.handover import Committed, Settings
from becalm.actions.infrastructure import Mirrored, mirrored_in
from becalm.cli.app import app
from becalm.errors import PolicyError
from becalm.git.access import GitAccess
from becalm.policy.load import load
from becalm.policy.spec import Infrastructure, InfrastructureRepository
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup
from becalm.storage import open_store
from becalm.testing.builders import a_policy
from becalm.testing.saved_points import PASSWORD


@pytest.fixture
def code(tmp_path: Path) -> Code:
    """A repository of code."""
    return Code.begun(tmp_path / "code")


def ask_for(scene: Scene, url: str, **said: Any) -> None:
    """Have the policy name a repository: a file's URL is for tests alone."""
    facts = {"ref": "main", "name": "code", "connection": None, "required": True, "max_size": 1 << 30, **said}
    one = InfrastructureRepository.model_construct(url=url, **facts)
    spec = a_policy().spec.model_copy(update={"infrastructure": Infrastructure.model_construct(repositories=(one,))})
    scene.policy = scene.policy.model_copy(update={"spec": spec})


def run(scene: Scene) -> Committed:
    """Make a point of one application, its code with it."""
    scene.clock.advance(3600)
    begun = scene.begin(run_id=f"run at {scene.clock.now()}")
    done = commit.execute(
        begun,
        discovered=discovered("shop"),
        cuts=[a_cut(scene, "shop", DATA)],
        thaws=[a_thaw("shop")],
        exports=[an_export(DATA)],
        results=[a_result(scene, DATA)],
        policy=scene.policy,
        ports=scene.ports,
    )
    scene.finish(begun, committed=done)
    return done


def told(scene: Scene, done: Committed) -> Mirrored:
    (one,) = mirrored_in(open_repository(scene.store, PASSWORD), done.tree)
    return one


def root(scene: Scene, done: Committed) -> str:
    return str(lookup(open_repository(scene.store, PASSWORD), done.tree, "git/code").subtree)


def test_a_point_holds_the_mirror_and_says_which_revision_it_was(code: Code) -> None:
    """All its refs, and the URL."""
    scene = Scene()
    last = code.commit({"more.yaml": "more: 1\n"})
    ask_for(scene, code.url)
    done = run(scene)
    one = told(scene, done)

    assert done.complete
    assert (one.name, one.url, one.ref, one.revision) == ("code", code.url, "refs/heads/main", last)
    assert dict(one.refs) == {"refs/heads/main": last}


def test_what_has_not_changed_is_taken_over_without_a_new_byte(code: Code) -> None:
    """The mirror is the very same tree."""
    scene = Scene()
    ask_for(scene, code.url)
    first, second = run(scene), run(scene)
    code.commit({"more.yaml": "more: 1\n"})
    third = run(scene)

    assert root(scene, first) == root(scene, second)
    assert root(scene, third) != root(scene, second)
    assert told(scene, third).revision != told(scene, second).revision


def test_a_repository_that_is_lost_stays_as_it_was_and_the_point_is_partial(code: Code) -> None:
    """With the time of which it is; a first point has nothing to stay."""
    scene = Scene()
    ask_for(scene, code.url)
    first = run(scene)
    code.folder.rename(code.folder.with_name("elsewhere"))
    second = run(scene)
    other = Scene()
    ask_for(other, code.url)
    alone = run(other)

    assert (second.complete, alone.complete) == (False, False)
    assert [finding.where for finding in second.missing] == ["git/code"]
    assert root(scene, second) == root(scene, first)
    assert told(scene, second).fetched == told(scene, first).fetched
    assert "as of" in told(scene, second).findings[0].where
    assert mirrored_in(open_repository(other.store, PASSWORD), alone.tree) == ()


def test_one_that_is_not_required_leaves_the_point_whole(code: Code) -> None:
    """The point says what it lacks all the same."""
    scene = Scene()
    ask_for(scene, code.url, required=False)
    run(scene)
    code.folder.rename(code.folder.with_name("elsewhere"))
    second = run(scene)

    assert second.complete
    assert told(scene, second).findings


def test_a_ref_that_is_not_there_is_named(code: Code) -> None:
    """With the branches that are."""
    scene = Scene()
    ask_for(scene, code.url, ref="production")
    done = run(scene)

    assert "production" in done.missing[0].message
    assert "main" in done.missing[0].remedy


def test_the_connection_that_the_policy_names_is_used(code: Code) -> None:
    """And no other."""
    scene = Scene()
    asked: list[str] = []

    def access(name: str) -> GitAccess:
        asked.append(name)
        return GitAccess(username="robot", password="open sesame")

    scene.changes["settings"] = Settings(cluster_name="test", git_access=access)
    with served(code, password="open sesame") as url:
        ask_for(scene, url, connection="git_robot")
        done = run(scene)

    assert (done.complete, asked) == (True, ["git_robot"])


def test_a_policy_without_code_has_no_folder_of_it(code: Code) -> None:
    """Nothing is asked of anybody."""
    scene = Scene()
    done = run(scene)

    assert done.complete
    assert infrastructure.save(scene.policy, scene.repository, None, scene.ports) == infrastructure.Code()


def test_the_code_comes_back_as_a_mirror_and_a_clone(code: Code, tmp_path: Path) -> None:
    """`becalm restore --git` needs the bucket alone; what is there already is refused, and a wrong name is told."""
    scene = Scene()
    ask_for(scene, code.url)
    run(scene)
    bucket = open_store(f"file://{tmp_path / 'bucket' / 'shop'}", {}, create=True)
    for info in scene.store.list(""):
        bucket.put(info.key, scene.store.get(info.key))

    def restore(*more: str) -> Any:
        words = ["restore", "--target", f"file://{tmp_path / 'bucket'}", "--policy", "shop", "--password", "env:BECALM_PASSWORD", *more]
        return CliRunner(env={"BECALM_PASSWORD": PASSWORD}).invoke(app, words)

    done = restore("--git", "code", "--to", str(tmp_path / "back"))
    again = restore("--git", "code", "--to", str(tmp_path / "back"))
    other = restore("--git", "other", "--to", str(tmp_path / "there"))

    assert done.exception is None, done.output
    assert (tmp_path / "back" / "code" / "shop.yaml").read_text() == "replicas: 1\n"
    assert (tmp_path / "back" / "code.git" / "HEAD").exists()
    assert "there already" in str(again.exception)
    assert "it holds code" in str(other.exception)
    assert "name and a folder" in str(restore("--git", "code").exception)


POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {name: shop}
spec:
  select: {namespaces: [shop]}
  target: {url: "s3://backups/test", password: "env:BECALM_PASSWORD"}
  infrastructure:
    repositories:
"""


def test_a_policy_names_its_repositories() -> None:
    """The last part of the URL is the name, if none is given."""
    policy = load(
        POLICY + "      - {url: 'https://git.example.org/team/infra.git'}\n      - {url: 'ssh://git@h/x', name: other}\n", source="p"
    )

    assert policy.spec.infrastructure
    assert [one.called for one in policy.spec.infrastructure.repositories] == ["infra", "other"]


@pytest.mark.parametrize(
    "lines",
    [
        "      - {url: 'https://h/infra.git'}\n      - {url: 'https://h/other/infra'}\n",
        "      - {url: 'https://h/infra.git', name: '../x'}\n",
        "      - {url: 'file:///etc'}\n",
        "      - {url: 'https://robot:secret@h/infra.git'}\n",
        "      - {url: 'https://h/infra.git', maxSize: much}\n",
    ],
    ids=["two of one name", "a name that is a path", "a file", "credentials", "no size"],
)
def test_a_repository_that_cannot_be_followed_is_refused(lines: str) -> None:
    """When the policy is read."""
    with pytest.raises(PolicyError):
        load(POLICY + lines, source="p")
