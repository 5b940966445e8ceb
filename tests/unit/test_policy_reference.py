"""The reference page says what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest

from becalm.policy.reference import render
from becalm.policy.spec import ProtectionPolicy

PAGE = Path(__file__).parents[2] / "docs" / "policy-reference.md"


def test_the_page_is_up_to_date() -> None:
    """`python -m becalm.policy.reference > docs/policy-reference.md` makes it."""
    assert render() == PAGE.read_text(encoding="utf-8")


SCHEMA = ProtectionPolicy.model_json_schema(by_alias=True)


def every_key() -> list[tuple[str, str]]:
    """Return every key of every section with its description; of a section, the section's own may stand for it."""
    sections = {"": SCHEMA, **SCHEMA["$defs"]}
    keys = [(f"{name}.{key}", value) for name, section in sections.items() for key, value in section.get("properties", {}).items()]
    return [(path, value.get("description") or SCHEMA["$defs"][value["$ref"].rpartition("/")[2]]["description"]) for path, value in keys]


@pytest.mark.parametrize(("key", "description"), every_key())
def test_every_key_is_described(key: str, description: str) -> None:
    """In whole sentences."""
    assert description.endswith(".")
