"""The certificates among the objects of a capture, and until when they hold: what a restore of them would be worth. Pure.

Only what everybody may read is kept: subject, names, times. A private key is never looked at.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from becalm.clock import parse_time
from becalm.kube.rules import child
from becalm.model import Certificate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.kube.base import Kind
    from becalm.model import Manifest

SECRETS = ("", "secrets")
ORDERED = ("cert-manager.io", "certificates")
"""What cert-manager is asked for; the certificate itself stands in a Secret."""
TABLES = frozenset({SECRETS, ORDERED})
CERTIFICATE_KEY = "tls.crt"
MOST_NAMES = 20
MOST_CERTIFICATES = 1000
"""So many are told, those that end first before all others."""
SOON = timedelta(days=30)


def found_in(kind: Kind, manifest: Manifest) -> Certificate | None:
    """Return the certificate of an object, or nothing where it has none."""
    metadata = manifest["metadata"]
    where = f"{kind}/{metadata.get('namespace')}/{metadata['name']}"
    if (kind.group, kind.resource) == ORDERED:
        return _ordered(where, manifest)
    text = child(manifest, "data").get(CERTIFICATE_KEY)
    return _read(where, text) if isinstance(text, str) and text else None


def _ordered(where: str, manifest: Manifest) -> Certificate:
    spec, ends = child(manifest, "spec"), child(manifest, "status").get("notAfter")
    asked = spec.get("dnsNames")
    names = tuple(str(name) for name in asked[:MOST_NAMES]) if isinstance(asked, list) else ()
    subject = str(spec.get("commonName") or "")
    try:
        not_after = parse_time(str(ends)) if ends else None
    except ValueError:
        not_after = None
    return Certificate(
        where=where, subject=subject, names=names, not_after=not_after, problem="" if not_after else "it has not been issued yet"
    )


def _read(where: str, text: str) -> Certificate:
    """Read the first certificate of a chain."""
    from cryptography import x509  # noqa: PLC0415  (only captures that meet a certificate pay for it)

    try:
        found = x509.load_pem_x509_certificate(b64decode(text, validate=True))
        names = _names(found, x509.SubjectAlternativeName)
        return Certificate(where=where, subject=found.subject.rfc4514_string(), names=names, not_after=found.not_valid_after_utc)
    except (ValueError, binascii.Error, x509.InvalidVersion):
        return Certificate(where=where, problem=f"what stands under {CERTIFICATE_KEY} is not a certificate")


def _names(found: Any, extension: Any) -> tuple[str, ...]:
    """Return the names that a certificate holds for; broken extensions hold for none."""
    from cryptography import x509  # noqa: PLC0415  (as above)

    try:
        alternatives = found.extensions.get_extension_for_class(extension).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    return tuple(str(name.value) for name in alternatives if isinstance(name, (x509.DNSName, x509.IPAddress)))[:MOST_NAMES]


def told(certificates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Put those first that end first; of very many, leave out those that last."""
    known = sorted(certificates, key=lambda one: (one.not_after is None, one.not_after.timestamp() if one.not_after else 0.0, one.where))
    return tuple(known[:MOST_CERTIFICATES])
