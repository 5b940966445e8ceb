"""The code that a cluster is made from, over HTTPS with a token: in a real recovery point, unchanged, changed, unreachable, and back again."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.e2e.harness import World, becalm, write_policy
from tests.unit.git_scenes import Code, served


def authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for the loopback, which stands for itself, and a server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "code")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate, secret = folder / "authority.pem", folder / "key.pem"
    certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    return certificate, context


def test_code_travels_with_the_recovery_point(world: World, bucket: str, folder: Path, namespace: str, environment: dict[str, str]) -> None:
    """A point is whole as long as the server answers; then it is partial, and holds the code as it was."""
    world.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}, namespace)
    place = folder / "infrastructure"
    code = Code.begun(place / "code")
    trusted, tls = authority(place)
    given = {**environment, "SSL_CERT_FILE": str(trusted), "BECALM_GIT_USERNAME": "robot", "BECALM_GIT_PASSWORD": "open sesame"}
    with served(code, password="open sesame", tls=tls) as url:
        lines = [
            "apiVersion: becalm.dev/v1",
            "kind: ProtectionPolicy",
            "metadata: {name: code}",
            "spec:",
            "  cluster: kubernetes_default",
            f"  select: {{namespaces: [{namespace}]}}",
            f'  infrastructure: {{repositories: [{{url: "{url}"}}]}}',
            f'  target: {{url: "s3://{bucket}/code", connection: becalm_s3, password: "env:BECALM_PASSWORD"}}',
        ]
        policy = write_policy(folder / "code.yaml", lines)
        becalm("init", str(policy), environment=given)
        becalm("run", str(policy), environment=given)
        becalm("run", str(policy), environment=given)
        last = code.commit({"shop.yaml": "replicas: 2\n"})
        becalm("run", str(policy), environment=given)
    becalm("run", str(policy), environment=given, code=5)
    now = becalm("restore", str(policy), "--git", "code", "--to", str(place / "now"), environment=environment)
    before = becalm("points", str(policy), environment=environment)["points"][0]["id"]
    becalm("restore", str(policy), "--git", "code", "--to", str(place / "before"), "--point", before, environment=environment)

    assert now["revision"] == last
    assert (place / "now" / "code" / "shop.yaml").read_text() == "replicas: 2\n"
    assert (place / "before" / "code" / "shop.yaml").read_text() == "replicas: 1\n"
