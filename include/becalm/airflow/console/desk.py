"""What every page works with: the library, the forms' tokens, and the templates. One per API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from becalm.airflow.console import words
from becalm.airflow.console.rights import Refused, Right, Visitor, demand
from becalm.airflow.console.tokens import Tokens, same_origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

    from becalm.airflow.console.library import Library
    from becalm.clock import Clock
    from becalm.policy.spec import ProtectionPolicy

MOST_POSTED = 64 << 10
"""A form of the console is never longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The library, the tokens, the templates."""

    library: Library
    tokens: Tokens
    clock: Clock
    templates: Environment

    def page(self, template: str, visitor: Visitor, request: Request, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page."""
        base = request.scope.get("root_path", "")
        text = self.templates.get_template(template).render(
            visitor=visitor, base=base, now=self.clock.now(), reading=values.pop("reading", False), **values
        )
        return HTMLResponse(text, status_code=status)

    def policy(self, visitor: Visitor, name: str) -> ProtectionPolicy:
        """Return a policy that the visitor may see. Raises Refused, NotFound, and the error of a broken one."""
        demand(visitor, Right.VIEW, name)
        return self.library.policy(name)

    async def posted(self, request: Request, visitor: Visitor, policy: str) -> Mapping[str, str]:
        """Return a form that was posted by the visitor, and by nobody in the visitor's name. Raises Refused."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_POSTED:
                break
        fields = words.read_fields(body[:MOST_POSTED])
        meant = visitor.by_token or (same_origin(request.headers) and self.tokens.good(visitor, request.url.path, fields.get("token", "")))
        if not meant:
            raise Refused(Right.VIEW, policy)
        return fields


def templates() -> Environment:
    """Return the templates: everything that is put into them is escaped."""
    made = Environment(
        loader=PackageLoader("becalm.airflow.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "size": words.bytes_of,
        "span": words.span_of,
        "time": words.time_of,
        "named": words.name_of,
        "in_url": words.in_url,
    }
    made.globals |= {"query": words.query, "ago": words.ago, "Right": Right}
    return made
