"""TLS to a replica: the certificate that its machine announced, and no other. On asyncio's loop and on uvloop's."""

import asyncio
import hashlib
import socket
import ssl
from http import HTTPStatus
from ipaddress import ip_address

import pytest

from raymart_core.units import Fault
from raymart_marketplace.gateway.http_client import BUFFERED_BYTES_MAX, ClientLimits, DirectUpstream
from raymart_marketplace.supply.upstream import UpstreamBroken
from raymart_serve.replica.http_connection import HttpLimits
from raymart_serve.replica.http_server import HttpServer
from raymart_serve.replica.own_certificate import make_own_certificate
from support.scripted_replica import SECRET, ScriptedReplica
from support.tls_front import make_certificate

LOOPBACK = ip_address("127.0.0.1")


@pytest.fixture
def certificate():
    return make_own_certificate(LOOPBACK)


@pytest.fixture
async def replica(certificate):
    async with ScriptedReplica(tls=certificate.context) as server:
        yield server


@pytest.fixture
async def reach():
    """Makes upstreams and closes them."""
    made = []

    def reach(address, sha256, **limits):
        made.append(DirectUpstream(address, SECRET, sha256, limits=ClientLimits(**limits)))
        return made[-1]

    yield reach
    for upstream in made:
        upstream.close()


async def post(upstream):
    body = b'{"sampling":{"max_tokens":2},"prompt":"hi"}'
    async with asyncio.timeout(10):
        return await upstream.post("/v1/generate", body, request_id="req_1", deadline_ms=1000)


async def body(response):
    async with asyncio.timeout(10):
        return b"".join([chunk async for chunk in response.chunks()])


class TestExchange:
    async def test_a_replica_s_own_server_answers_over_one_kept_connection(self, certificate, reach):
        peers = set()

        async def handler(request, exchange):
            peers.add(exchange._transport.get_extra_info("peername"))
            assert exchange._transport.get_extra_info("ssl_object").version() == "TLSv1.3"
            exchange.send(HTTPStatus.OK, {"got": len(request.body)})

        server = HttpServer(handler, secret=SECRET, limits=HttpLimits())
        upstream = reach(await server.start("127.0.0.1", tls=certificate.context), certificate.sha256)
        for _ in range(5):
            response = await post(upstream)
            assert (response.status, await body(response)) == (200, b'{"got":43}')
        assert len(peers) == 1
        await server.close()

    async def test_session_tickets_do_not_spoil_a_kept_connection(self, certificate, reach):
        certificate.context.num_tickets = 2
        async with ScriptedReplica(tls=certificate.context) as replica:
            upstream = reach(replica.address, certificate.sha256)
            for _ in range(5):
                await body(await post(upstream))
            assert replica.connections == 1

    async def test_a_connection_that_the_replica_leaves_is_not_used_again(self, certificate, replica, reach):
        """Its farewell is in the kernel; our event loop has not seen it yet."""
        upstream = reach(replica.address, certificate.sha256)
        await body(await post(upstream))
        replica.exchanges[0].transport.close()
        assert (await post(upstream)).status == 200
        assert replica.connections == 2

    async def test_a_break_in_mid_stream_is_the_providers_fault(self, certificate, replica, reach):
        async def die(exchange):
            exchange.prompt()
            exchange.step()
            await asyncio.sleep(0)
            exchange.cut()

        replica.script = die
        response = await post(reach(replica.address, certificate.sha256))
        with pytest.raises(UpstreamBroken) as caught:
            await body(response)
        assert caught.value.fault is Fault.PROVIDER

    async def test_a_reader_that_does_not_read_stops_the_replica(self, certificate, replica, reach):
        total = 32 * 2**20
        stopped = asyncio.Event()

        async def flood(exchange):
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            for _ in range(total // 2**20):
                exchange.raw(bytes(2**20))
                await asyncio.sleep(0)
            stopped.set()

        replica.script = flood
        response = await post(reach(replica.address, certificate.sha256))
        async with asyncio.timeout(10):
            await stopped.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert response.buffered_bytes < 4 * BUFFERED_BYTES_MAX
        async with asyncio.timeout(30):
            assert sum([len(chunk) async for chunk in response.chunks()]) == total


class TestCertificate:
    async def refused(self, upstream, replica, *, match):
        with pytest.raises(UpstreamBroken, match=match) as caught:
            await post(upstream)
        assert caught.value.fault is Fault.PROVIDER
        assert replica.exchanges == []

    async def test_another_one_for_the_same_address_is_refused_before_a_byte_is_sent(self, replica, reach):
        """As a neighbour has it that took over the address."""
        other = make_own_certificate(LOOPBACK)
        await self.refused(reach(replica.address, other.sha256), replica, match="another certificate")

    async def test_one_that_an_authority_signed_is_refused_too(self, certificate, tmp_path, reach):
        path, key, _ = make_certificate(tmp_path, name="localhost", address="127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path, key)
        async with ScriptedReplica(tls=context) as replica:
            await self.refused(
                reach(replica.address, certificate.sha256), replica, match="another certificate"
            )

    async def test_names_and_dates_of_the_announced_one_decide_nothing(self, tmp_path, reach):
        path, key, _ = make_certificate(tmp_path, name="elsewhere", address="10.0.0.1", days=-1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path, key)
        sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text())).hexdigest()
        async with ScriptedReplica(tls=context) as replica:
            assert (await post(reach(replica.address, sha256))).status == 200

    async def test_a_server_without_tls_is_refused(self, certificate, reach):
        async def handler(request, exchange):
            exchange.send(HTTPStatus.OK)

        server = HttpServer(handler, secret=SECRET, limits=HttpLimits())
        upstream = reach(await server.start("127.0.0.1"), certificate.sha256)
        with pytest.raises(UpstreamBroken, match="cannot connect") as caught:
            await post(upstream)
        assert caught.value.fault is Fault.PROVIDER
        await server.close()

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    async def test_old_tls_is_refused(self, certificate, reach):
        certificate.context.minimum_version = ssl.TLSVersion.TLSv1
        certificate.context.maximum_version = ssl.TLSVersion.TLSv1_1
        certificate.context.set_ciphers("ALL:@SECLEVEL=0")
        async with ScriptedReplica(tls=certificate.context) as replica:
            await self.refused(reach(replica.address, certificate.sha256), replica, match="cannot connect")

    async def test_a_handshake_that_hangs_ends_with_the_connect_timeout(self, certificate, reach):
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            upstream = reach(
                f"127.0.0.1:{listener.getsockname()[1]}", certificate.sha256, connect_timeout_s=0.2
            )
            with pytest.raises(UpstreamBroken, match="no connection within") as caught:
                await post(upstream)
            assert caught.value.fault is Fault.NETWORK
            peer, _ = await loop.sock_accept(listener)
            async with asyncio.timeout(5):
                while await loop.sock_recv(peer, 65536):
                    """The client's hello, then its end."""
            peer.close()


class TestAddress:
    @pytest.mark.parametrize("address", ["10.0.0.6:9000", "[fd00::6]:9000", "192.168.1.1:80"])
    def test_another_machine_is_reached_with_a_certificate_only(self, address, certificate):
        DirectUpstream(address, SECRET, certificate.sha256)
        with pytest.raises(ValueError, match="another machine"):
            DirectUpstream(address, SECRET)

    @pytest.mark.parametrize("sha256", ["", "ab", "zz" * 32, "AB" * 32, "ab" * 32 + "\n"])
    def test_a_fingerprint_that_is_none_is_refused(self, sha256):
        with pytest.raises(ValueError, match="SHA-256"):
            DirectUpstream("127.0.0.1:1", SECRET, sha256)
