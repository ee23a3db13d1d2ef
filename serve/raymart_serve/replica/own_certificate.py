"""A certificate that a replica makes for itself when it starts, for the gateways that reach it over the network.

Nobody signs it: its fingerprint travels with the replica's secret, to the agent and from there over the machine's own
proven link, and gateways trust that one certificate and no other. So no authority has to be asked, nothing is renewed,
and the key lives and dies with the process.
"""

import datetime as dt
import hashlib
import secrets
import ssl
import tempfile
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_NEVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""Source: RFC 5280, section 4.1.2.5: a certificate without a well-defined end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificate:
    """What a server needs to show the certificate, and others to know it again."""

    context: ssl.SSLContext
    sha256: str
    """Of the certificate's DER, 64 hex digits."""


def make_own_certificate(address: IPv4Address | IPv6Address) -> OwnCertificate:
    """A fresh P-256 key and its self-signed certificate for `address`. Takes a few milliseconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "raymart replica")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Valid from long before now: the clocks of a pool's machines are no part of what is proven here.
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(_NEVER)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return OwnCertificate(context=_context(certificate, key), sha256=hashlib.sha256(der).hexdigest())


def _context(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Gateways keep connections, they do not resume sessions.
    context.num_tickets = 0
    # The module reads a key from a file only; what is in that file for a moment is worth nothing without the password.
    password = secrets.token_bytes(32)
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "replica.pem")
        path.write_bytes(pem)
        context.load_cert_chain(path, password=password)
    return context
