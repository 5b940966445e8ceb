"""A report as one page: no script, nothing from elsewhere, light and dark, fit for paper. What it says is the report's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.actions.reporting import Grade
from becalm.clock import format_time

if TYPE_CHECKING:
    from becalm.actions.reporting import Report

SUMMARY = {
    Grade.GOOD: "All that was asked for holds, and all of it could be checked.",
    Grade.BAD: "Something that was asked for does not hold.",
    Grade.UNKNOWN: "Nothing that could be checked is wrong, but not everything could be checked.",
    Grade.UNASKED: "Nothing was asked for.",
}
CLASSES = {Grade.GOOD: "good", Grade.BAD: "bad", Grade.UNKNOWN: "unknown", Grade.UNASKED: "unasked"}


def render(report: Report, *, json_name: str, json_digest: str) -> str:
    """Return the page. It names the JSON beside it by its SHA-256."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  (only whoever writes a page waits for it)

    made = Environment(
        loader=PackageLoader("becalm.actions"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["moment"] = lambda moment: f"{format_time(moment)[:16].replace('T', ' ')} UTC"
    parts = [("Clusters", "cluster", report.clusters), ("Policies", "policy", report.policies)]
    return made.get_template("report.html").render(
        report=report, summary=SUMMARY[report.grade], classes=CLASSES, parts=parts, json_name=json_name, json_digest=json_digest
    )
