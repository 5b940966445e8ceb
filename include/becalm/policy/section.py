"""What every part of a policy is: frozen, in the words of the file, and strict."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Section(BaseModel):
    """A part of a policy: frozen, in the words of the file, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True)

    def set_keys(self) -> tuple[str, ...]:
        """Return the keys of this section that have a value, as the file spells them."""
        return tuple(field.alias or name for name, field in type(self).model_fields.items() if getattr(self, name) not in (None, (), ""))
