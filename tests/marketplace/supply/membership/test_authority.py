"""What a pool's authority signs, as OpenSSL's and our own verifier read it."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from raymart_marketplace.supply.membership.authority import CSR_BYTES_MAX, Authority, requested_key

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
DAY_S = 86_400.0


def request_of(key, *, name: str = "whoever") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM)


def signed(authority: Authority, *, address: str = "10.77.0.2", valid_s: float = DAY_S) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    made = authority.sign(
        requested_key(request_of(key)), name="gpu-1", address=ip_address(address), now=NOW, valid_s=valid_s
    )
    certificate = x509.load_pem_x509_certificate(made.pem)
    assert made.serial == f"{certificate.serial_number:x}"
    assert made.expires_at == certificate.not_valid_after_utc
    assert certificate.public_key() == key.public_key()
    return certificate


def verify(certificate: x509.Certificate, authority: Authority, *, address: str, at: datetime = NOW) -> None:
    store = Store([x509.load_pem_x509_certificate(authority.certificate_pem)])
    builder = PolicyBuilder().store(store).time(at)
    builder.build_server_verifier(x509.IPAddress(ip_address(address))).verify(certificate, [])
    builder.build_client_verifier().verify(certificate, [])


class TestAuthority:
    def test_its_certificates_are_good_for_servers_and_clients_at_their_address_only(self):
        authority = Authority.create("house", now=NOW)
        certificate = signed(authority)
        verify(certificate, authority, address="10.77.0.2")
        verify(certificate, authority, address="127.0.0.1")
        with pytest.raises(VerificationError):
            verify(certificate, authority, address="10.77.0.3")

    def test_another_pools_authority_believes_none_of_them(self):
        mine, other = Authority.create("house", now=NOW), Authority.create("house", now=NOW)
        with pytest.raises(VerificationError):
            verify(signed(mine), other, address="10.77.0.2")

    def test_a_member_cannot_sign_members(self):
        authority = Authority.create("house", now=NOW)
        certificate = signed(authority)
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign

    def test_a_certificate_ends_and_tolerates_a_clock_that_is_behind(self):
        authority = Authority.create("house", now=NOW)
        certificate = signed(authority, valid_s=60)
        verify(certificate, authority, address="10.77.0.2", at=NOW - timedelta(minutes=4))
        with pytest.raises(VerificationError):
            verify(certificate, authority, address="10.77.0.2", at=NOW + timedelta(seconds=61))

    def test_it_is_the_same_after_it_was_kept(self):
        authority = Authority.create("house", now=NOW)
        again = Authority.load(certificate_pem=authority.certificate_pem, key_der=authority.key_der)
        verify(signed(again), authority, address="10.77.0.2")

    def test_the_name_is_ours_and_not_the_requests(self):
        authority = Authority.create("house", now=NOW)
        (name,) = signed(authority).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert name.value == "gpu-1"


class TestRequestedKey:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "cannot be read"),
            (
                b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
                "cannot be read",
            ),
            (b"x" * (CSR_BYTES_MAX + 1), str(CSR_BYTES_MAX)),
        ],
        ids=["empty", "damaged", "too-long"],
    )
    def test_what_is_no_request_is_refused(self, content, says):
        with pytest.raises(ValueError, match=says):
            requested_key(content)

    @pytest.mark.parametrize("kind", ["rsa", "ed25519", "p384"])
    def test_keys_that_ray_does_not_take_are_refused(self, kind):
        key = {
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        }[kind]()
        with pytest.raises(ValueError, match="P-256"):
            requested_key(request_of(key))

    def test_a_request_for_somebody_elses_key_is_refused(self):
        """The signature of another key under the victim's public key."""
        victim, thief = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        wanted = x509.load_pem_x509_csr(request_of(victim)).public_bytes(serialization.Encoding.DER)
        forged = x509.load_pem_x509_csr(request_of(thief)).public_bytes(serialization.Encoding.DER)
        # Both have one shape, so that the last bytes, which are the signature, can be swapped.
        public = victim.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        own = thief.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        assert public in wanted
        swapped = x509.load_der_x509_csr(forged.replace(own, public))
        with pytest.raises(ValueError, match="not signed by its own key"):
            requested_key(swapped.public_bytes(serialization.Encoding.PEM))
