"""The files of a membership, in a folder of the agent's state directory: key, certificate, authority, token, grant.

One key for as long as the machine is enrolled: a renewed certificate then replaces the old one in a single step, and no
process of Ray ever reads a key that does not fit.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from raymart_core.wire.membership import PoolGrant
from raymart_providers.errors import UnsafeFile
from raymart_providers.private_file import read_private, write_private

RENEW_SHARE = 0.5
"""Share of its life after which another certificate is asked for."""
RESTART_SHARES = (0.6, 0.9)
"""Between these shares Ray must be started anew, each machine at a moment of its own: it reads certificates only then."""
RECONNECT_S = 600
"""How long Ray's processes look for a head that is away, before they give up: the head keeps its state elsewhere and
comes back as the same cluster. Replicas answer meanwhile."""


class _Grant(msgspec.Struct, frozen=True):
    """What is kept of a `PoolGrant` beside its files."""

    head: str
    labels: dict[str, str]
    granted_at: float
    """Unix time, by this machine's clock."""
    expires_at: float
    restart_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a process of the pool's Ray cluster is started with on this machine."""

    head: str
    """host:port of the pool's Ray head; empty while the head has not told it."""
    labels: Mapping[str, str]
    """Ray labels of this machine's Ray node."""
    environment: Mapping[str, str]
    """For Ray's processes and for programs that connect to them: token, TLS."""
    renew_at: float
    """Unix time from which a fresh certificate is due."""
    restart_at: float
    """Unix time by which Ray processes that were started with this must be started anew."""
    expires_at: float
    """Unix time at which other members stop believing them."""


@dataclass(frozen=True, slots=True)
class MembershipFiles:
    """The folder of one membership."""

    root: Path

    @property
    def key(self) -> Path:
        """The member's key, PEM, 0600. Never leaves this machine."""
        return self.root / "member.key"

    @property
    def certificate(self) -> Path:
        """Its certificate, PEM."""
        return self.root / "member.crt"

    @property
    def authority(self) -> Path:
        """The certificate of the pool's authority, PEM."""
        return self.root / "authority.crt"

    @property
    def token(self) -> Path:
        """The cluster's token."""
        return self.root / "token"

    @property
    def grant(self) -> Path:
        """The rest of the grant, JSON."""
        return self.root / "grant.json"

    def request(self, name: str) -> bytes:
        """A certificate request of this machine's key, PEM; the key is made where there is none. Raises: UnsafeFile."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key(), hashes.SHA256())
        )
        return request.public_bytes(Encoding.PEM)

    def keep(self, grant: PoolGrant) -> Membership:
        """Keep `grant`, its certificate last but for the record of it. Raises: UnsafeFile when it is not for our key."""
        certificate = _read_certificate(grant.certificate)
        if certificate.public_key() != self._key().public_key():
            raise UnsafeFile("the marketplace granted a certificate for another key; ask again")
        write_private(self.authority, grant.authority)
        write_private(self.token, grant.token.encode())
        write_private(self.certificate, grant.certificate)
        now = time.time()
        # Different machines at different moments, or all of the pool would be away at once.
        share = random.uniform(*RESTART_SHARES)  # noqa: S311 - jitter
        kept = _Grant(
            head=grant.head,
            labels=grant.labels,
            granted_at=now,
            expires_at=now + grant.expires_in_s,
            restart_at=now + share * grant.expires_in_s,
        )
        write_private(self.grant, msgspec.json.encode(kept))
        return self._membership(kept)

    def load(self) -> Membership | None:
        """The membership of an earlier run, None when there is none or it has expired. Raises: UnsafeFile."""
        try:
            kept = msgspec.json.decode(read_private(self.grant), type=_Grant)
            for path in (self.key, self.certificate, self.authority, self.token):
                read_private(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UnsafeFile(
                f"{self.grant} is damaged ({error}); delete {self.root} and join again"
            ) from None
        return self._membership(kept) if kept.expires_at > time.time() else None

    def _membership(self, kept: _Grant) -> Membership:
        return Membership(
            head=kept.head,
            labels=kept.labels,
            environment=self.environment(),
            renew_at=kept.granted_at + RENEW_SHARE * (kept.expires_at - kept.granted_at),
            restart_at=kept.restart_at,
            expires_at=kept.expires_at,
        )

    def environment(self) -> Mapping[str, str]:
        """What Ray is told of these files.

        Source: docs.ray.io, "TLS authentication"; the head's reconnect time is Ray's
        `gcs_rpc_server_reconnect_timeout_s`.
        """
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(self.certificate),
            "RAY_TLS_SERVER_KEY": str(self.key),
            "RAY_TLS_CA_CERT": str(self.authority),
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_S),
        }

    def _key(self) -> ec.EllipticCurvePrivateKey:
        try:
            content = read_private(self.key)
        except FileNotFoundError:
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(self.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            return key
        try:
            loaded = load_pem_private_key(content, password=None)
        except (ValueError, TypeError) as error:
            raise UnsafeFile(f"{self.key} holds no readable key ({error}); delete {self.root}") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise UnsafeFile(f"{self.key} holds a {type(loaded).__name__}; delete {self.root}")
        return loaded


def _read_certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise UnsafeFile(f"the marketplace granted a certificate that cannot be read ({error})") from None
