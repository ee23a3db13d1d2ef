"""Beyond loopback a replica speaks TLS by a certificate of its own, and says which."""

import hashlib
import ipaddress
import socket
import ssl
import tempfile
from pathlib import Path

import psutil
import pytest
from cryptography import x509

from raymart_serve.replica.own_certificate import make_own_certificate
from raymart_serve.settings import ReplicaSettings
from support.replica_client import ReplicaClient


@pytest.fixture
def private_address() -> str:
    """An address of this machine in a private network."""
    for addresses in psutil.net_if_addrs().values():
        for found in addresses:
            if found.family is socket.AF_INET:
                address = ipaddress.ip_address(found.address)
                if address.is_private and not address.is_loopback:
                    return found.address
    pytest.skip("this machine has loopback only")


class TestCertificate:
    def test_each_is_another_and_tls_is_new(self) -> None:
        first, second = (make_own_certificate(ipaddress.ip_address("10.0.0.6")) for _ in range(2))
        assert first.sha256 != second.sha256
        assert first.context.minimum_version is ssl.TLSVersion.TLSv1_2

    def test_nothing_of_the_key_stays_on_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        make_own_certificate(ipaddress.ip_address("fd00::6"))
        assert list(tmp_path.rglob("*")) == []


class TestReplica:
    def test_on_a_private_address_it_speaks_tls_and_plain_http_for_its_agent_alone(
        self, run_replica, private_address: str
    ) -> None:
        running = run_replica(settings=ReplicaSettings(replica_host=private_address))
        told = running.replica.registration()
        assert told.address.startswith("127.0.0.1:")
        host, _, port = told.direct_address.rpartition(":")
        assert host == private_address
        pem = ssl.get_server_certificate((host, int(port)), timeout=30)
        shown = ssl.PEM_cert_to_DER_cert(pem)
        assert hashlib.sha256(shown).hexdigest() == told.certificate_sha256
        certificate = x509.load_der_x509_certificate(shown)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(private_address)]
        with ReplicaClient(told.address, running.secret) as client:
            assert client.request("GET", "/health").status == 200
        with (
            ReplicaClient(told.direct_address, running.secret) as client,
            pytest.raises((ConnectionError, OSError)),
        ):
            client.request("GET", "/health")

    def test_on_loopback_there_is_one_door_without_tls(self, run_replica) -> None:
        told = run_replica().replica.registration()
        assert (told.direct_address, told.certificate_sha256) == ("", "")
