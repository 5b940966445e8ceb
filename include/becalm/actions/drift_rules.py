"""What is noise when a cluster is compared with what was declared and saved: rules, each with its name and its reason, and each can be left out.

To the rules of `kube.rules` come those of a cluster at work, and those that an author writes. Pure; a rule never hides a whole kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from becalm.actions.diff import MADE_AGAIN, MADE_AGAIN_BECAUSE
from becalm.actions.restore_patterns import kind_matches
from becalm.errors import UsageError
from becalm.kube.resources import controller_of, left_out
from becalm.kube.rules import LAST_APPLIED, RULES, Rule, child, children, group_kind, keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from becalm.model import Manifest, ResourceRef

UNDECLARED = "undeclared"
UNDECLARED_BECAUSE = "a declaration lacks what the server and others fill in; only the fields that it says are compared with it"
AUTOSCALED = "autoscaled-replicas"
AUTOSCALED_BECAUSE = "a HorizontalPodAutoscaler chooses how many there are"
LEADER = "control-plane.alpha.kubernetes.io/leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRule:
    """One reason for which whole objects that nobody declared are not compared."""

    name: str
    because: str
    why: Callable[[Manifest], str]
    """Why this object is meant; nothing where it is not."""


def _controlled(manifest: Manifest) -> str:
    owner = controller_of(child(manifest, "metadata"))
    return f"its {owner.partition('.')[0]} makes it" if owner else ""


def _release(manifest: Manifest) -> str:
    return "Helm's record of a release" if manifest.get("type") == "helm.sh/release.v1" else ""


def _default_account(manifest: Manifest) -> str:
    default = group_kind(manifest) == "ServiceAccount" and child(manifest, "metadata").get("name") == "default"
    return "the server makes it in each namespace" if default else ""


def _token(manifest: Manifest) -> str:
    return "a token that new nodes join with, which expires" if manifest.get("type") == "bootstrap.kubernetes.io/token" else ""


WHOLE: tuple[WholeRule, ...] = (
    WholeRule(name="controller-owned", because="a controller makes it of another object, which is compared", why=_controlled),
    WholeRule(
        name="rotating-tokens",
        because="the tokens that new nodes join with come and go; those of accounts have rules of their own",
        why=_token,
    ),
    WholeRule(name="helm-releases", because="Helm writes a record of each release, and its objects are compared", why=_release),
    WholeRule(name="default-accounts", because="the server makes one in each namespace", why=_default_account),
)


def _injected(manifest: Manifest) -> None:
    if not any(name.startswith("cert-manager.io/inject") for name in child(manifest, "metadata", "annotations")):
        return
    places = [child(hook, "clientConfig") for hook in children(manifest, "webhooks")]
    places += [child(manifest, "spec"), child(manifest, "spec", "conversion", "webhook", "clientConfig")]
    for place in places:
        place.pop("caBundle", None)


def _tolerations(manifest: Manifest) -> None:
    spec = child(manifest, "spec")
    if isinstance(spec.get("tolerations"), list):
        spec["tolerations"] = [one for one in spec["tolerations"] if not (isinstance(one, dict) and one.get("key") in _NODE_TROUBLE)]
        if not spec["tolerations"]:
            del spec["tolerations"]


_NODE_TROUBLE = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})

AT_WORK: tuple[Rule, ...] = (
    Rule(name="default-tolerations", because="admission gives each pod two of them", kinds=("Pod",), remove=_tolerations),
    Rule(
        name="last-applied",
        because="kubectl repeats there what it applied, which is compared itself",
        remove=keys(LAST_APPLIED, of="annotations"),
    ),
    Rule(name="leader-marks", because="whoever leads writes so every few seconds", remove=keys(LEADER, of="annotations")),
    Rule(name="injected-authorities", because="cert-manager writes its authority there", remove=_injected),
)
"""Beside the rules for all comparisons. `empty-maps`, the last of those, comes after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreRule:
    """One thing that an author lets differ, and why. Nothing said of kinds, names or fields: all of them."""

    because: str
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Globs for `name`, or `namespace/name`."""
    fields: tuple[str, ...] = ()
    """Places as the report writes them, with `*` for anything; what is below one is meant, too. None: the whole object."""

    def means(self, ref: ResourceRef, kind: str) -> bool:
        """Say whether the rule speaks of an object."""
        if self.kinds and not any(kind_matches(pattern, ref.group, ref.resource, kind) for pattern in self.kinds):
            return False
        full = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        return not self.names or any(fnmatchcase(full if "/" in pattern else ref.name, pattern) for pattern in self.names)

    def ignores(self, path: str) -> bool:
        """Say whether a field of such an object is meant."""
        return not self.fields or any(_place(pattern).match(path) for pattern in self.fields)


def _place(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))) + r"(?=$|[.\[])")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRules:
    """What is ignored in one comparison."""

    fields: tuple[Rule, ...] = field(default_factory=lambda: _field_rules())  # noqa: PLW0108  (defined below)
    whole: tuple[WholeRule, ...] = WHOLE
    made_again: bool = True
    undeclared: bool = True
    autoscaled: bool = True
    own: tuple[IgnoreRule, ...] = ()

    @classmethod
    def without(cls, names: Iterable[str], own: Iterable[IgnoreRule] = ()) -> DriftRules:
        """Return the rules but those that are named, with the author's own. Raises UsageError for a name that no rule has."""
        dropped, known = set(names), [name for name, _, _ in told()]
        for name in sorted(dropped - set(known)):
            near = get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"no rule is called {name!r}", where="--no-ignore", hint=f"{meant}becalm drift --list-rules names them all")
        return cls(
            fields=tuple(rule for rule in _field_rules() if rule.name not in dropped),
            whole=tuple(rule for rule in WHOLE if rule.name not in dropped),
            made_again=MADE_AGAIN not in dropped,
            undeclared=UNDECLARED not in dropped,
            autoscaled=AUTOSCALED not in dropped,
            own=tuple(own),
        )

    def with_autoscaled(self, targets: Collection[Target]) -> DriftRules:
        """Return the rules with the one for workloads whose number somebody else chooses."""
        if not (self.autoscaled and targets):
            return self

        def remove(manifest: Manifest) -> None:
            metadata = child(manifest, "metadata")
            if (group_kind(manifest), str(metadata.get("namespace")), str(metadata.get("name"))) in targets:
                child(manifest, "spec").pop("replicas", None)

        return replace(self, fields=(*self.fields, Rule(name=AUTOSCALED, because=AUTOSCALED_BECAUSE, remove=remove)))

    def left_out(self, manifest: Manifest, services: Collection[str]) -> str:
        """Say why a whole object that nobody declared is not compared; nothing where it is."""
        why = (left_out(manifest, services=services) or "") if self.made_again else ""
        return why or next((said for rule in self.whole if (said := rule.why(manifest))), "")


Target = tuple[str, str, str]
"""A workload: its kind (`Deployment.apps`), namespace and name."""


def autoscaled(manifests: Iterable[Manifest]) -> Iterator[Target]:
    """Yield the workloads that autoscalers speak of."""
    for manifest in manifests:
        meant = child(manifest, "spec", "scaleTargetRef")
        yield group_kind(meant), str(child(manifest, "metadata").get("namespace")), str(meant.get("name"))


def told() -> list[tuple[str, str, str]]:
    """Return every rule: its name, of what it is, and why."""
    rows = [(rule.name, ", ".join(rule.kinds) or "all", rule.because) for rule in _field_rules()]
    rows.append((AUTOSCALED, "workloads with an autoscaler", AUTOSCALED_BECAUSE))
    rows.append((UNDECLARED, "fields", UNDECLARED_BECAUSE))
    rows.append((MADE_AGAIN, "whole objects", MADE_AGAIN_BECAUSE))
    return rows + [(rule.name, "whole objects", rule.because) for rule in WHOLE]


def _field_rules() -> tuple[Rule, ...]:
    *most, last = (rule for rule in RULES if rule.comparing)
    return (*most, *AT_WORK, last)
