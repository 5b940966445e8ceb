"""How a repository of code is reached: names and keys. They are secrets, and stay out of what is printed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAccess:
    """What a connection says. Nothing of it: a repository that anybody may read, or what `ssh` itself knows."""

    username: str = ""
    password: str = field(default="", repr=False)
    """For HTTPS: a password or a token."""
    key: str = field(default="", repr=False)
    """For SSH: the text of a private key without a passphrase."""
    known_hosts: str = ""
    """For SSH: lines as in a known_hosts file. Without them, those of whoever runs this."""
