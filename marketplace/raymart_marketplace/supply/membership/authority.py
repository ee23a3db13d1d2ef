"""A pool's own certificate authority: makes itself, signs members. No database, no network.

Each certificate names what the marketplace knows, never what the request says of itself: of the request only the key
is taken. Members are servers and clients to each other, so that every certificate is good for both.

Source: RFC 5280 (profiles), RFC 2986 (requests). Ray's gRPC takes P-256 keys and checks the IP address it dials against
the certificate's names (facts: infrastructure, section 2b).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_YEARS = 10
SKEW = timedelta(minutes=5)
"""How far a member's clock may be behind ours and still believe a fresh certificate."""
CSR_BYTES_MAX = 8_192
_COMMON_NAME_CHARACTERS_MAX = 64
_LOOPBACK = (x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCertificate:
    """A signed certificate."""

    pem: bytes
    serial: str
    """Hex."""
    expires_at: datetime


class Authority:
    """A pool's authority, with its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str, *, now: datetime) -> "Authority":
        """A fresh authority for the pool `name`: its certificates are worth nothing in any other pool."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"Raymart pool {name}")
        builder = _builder(subject, subject, key.public_key(), now=now)
        certificate = (
            builder.not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, *, certificate_pem: bytes, key_der: bytes) -> "Authority":
        """The authority that `create` made."""
        key = load_der_private_key(key_der, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate(certificate_pem), key)

    @property
    def certificate_pem(self) -> bytes:
        """What members trust."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def key_der(self) -> bytes:
        """PKCS#8, not encrypted: seal it."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *,
        name: str,
        address: IPv4Address | IPv6Address,
        now: datetime,
        valid_s: float,
    ) -> MemberCertificate:
        """A member's certificate for `address`, and for loopback, which a machine's own processes use."""
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(_name(name), self._certificate.subject, public_key, now=now)
            .not_valid_after(now + timedelta(seconds=valid_s))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName(dict.fromkeys((x509.IPAddress(address), *_LOOPBACK))),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return MemberCertificate(
            pem=certificate.public_bytes(Encoding.PEM),
            serial=f"{certificate.serial_number:x}",
            expires_at=certificate.not_valid_after_utc,
        )


def requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request, whose holder proved to have the private one.

    Raises: ValueError, with what to do, for anything but a well-signed request with a P-256 key.
    """
    if len(csr_pem) > CSR_BYTES_MAX:
        raise ValueError(f"a certificate request has at most {CSR_BYTES_MAX} bytes, not {len(csr_pem)}")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        signed = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise ValueError(f"the certificate request cannot be read ({error}); send PKCS#10 in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(  # noqa: TRY004 - a stranger's bytes, not our mistake
            "the certificate request's key must be an elliptic curve key, P-256"
        )
    if not signed:
        raise ValueError("the certificate request is not signed by its own key")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_COMMON_NAME_CHARACTERS_MAX])])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
