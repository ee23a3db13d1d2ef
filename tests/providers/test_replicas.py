import asyncio
import contextlib

import pytest

from raymart_core.wire.link import CACHED_MAX, FRAME_BYTES_MAX, Announce, Hardware, ModelCache, encode
from raymart_providers.replicas import REPLICAS_MAX, ReplicaBook, split_address
from raymart_serve.replica.registration import ReplicaRegistration
from support.link_market import until
from support.scripted_replica import ScriptedReplica


def registration(address, **changes):
    values = {
        "replica_id": "r1",
        "revision": "sha256:aa",
        "model": "raymart/demo-chat",
        "engine": "llama_cpp",
        "address": address,
        "secret": "s",
        "pid": 1,
        "capacity": 2,
        "context_length": 1024,
    }
    return ReplicaRegistration(**{**values, **changes})


@pytest.fixture
async def book():
    changes = []
    book = ReplicaBook(on_change=lambda: changes.append(len(book.all())), stale_s=0.2)
    book.changes = changes
    yield book
    await book.close()


@pytest.fixture
async def replica():
    async with ScriptedReplica() as replica:
        yield replica


@contextlib.asynccontextmanager
async def closing_server(*, after_s):
    """A server that closes each connection after a while; its address and the connections it had."""
    connections = []

    async def serve(reader, writer):
        connections.append(asyncio.current_task())
        await asyncio.sleep(after_s)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    await asyncio.gather(*connections, return_exceptions=True)


class TestRegister:
    async def test_a_registration_is_announced_once(self, book, replica):
        for _ in range(5):
            book.register(registration(replica.address))
        assert book.changes == [1]
        (announced,) = book.announced()
        assert (announced.replica_id, announced.capacity, announced.state) == ("r1", 2, "ready")

    async def test_address_and_secret_stay_here_unless_direct(self, book, replica):
        book.register(registration(replica.address))
        assert (book.announced()[0].address, book.announced()[0].secret) == (None, None)
        direct = ReplicaBook(on_change=lambda: None, direct=True)
        direct.register(registration(replica.address))
        assert (direct.announced()[0].address, direct.announced()[0].secret) == (replica.address, "s")
        await direct.close()

    async def test_a_direct_way_is_announced_with_its_certificate_and_not_watched(self, book, replica):
        """The agent itself stays on loopback, where it needs no TLS."""
        theirs = {"direct_address": "10.0.0.6:9000", "certificate_sha256": "ab" * 32}
        book.register(registration(replica.address, **theirs))
        assert book.announced()[0].certificate_sha256 is None
        direct = ReplicaBook(on_change=lambda: None, direct=True)
        direct.register(registration(replica.address, **theirs))
        (announced,) = direct.announced()
        assert (announced.address, announced.certificate_sha256) == ("10.0.0.6:9000", "ab" * 32)
        await until(lambda: replica.connections == 2)
        await direct.close()

    async def test_as_many_as_may_be_here_fit_into_one_frame(self, replica):
        direct = ReplicaBook(on_change=lambda: None, direct=True)
        for number in range(REPLICAS_MAX):
            direct.register(
                registration(
                    replica.address,
                    replica_id=f"{number:032x}",
                    revision="sha256:" + "ab" * 32,
                    model="meta-llama/Llama-4-Maverick-17B-128E-Instruct",
                    engine="vllm 0.32.0",
                    secret="s" * 43,
                    direct_address="192.168.100.100:54321",
                    certificate_sha256="ab" * 32,
                )
            )
        announcement = Announce(
            hardware=Hardware(hostname="h", cpu_model="c", cpu_count=1, memory_bytes=1),
            cache=ModelCache(revisions=("sha256:" + "ab" * 32,) * CACHED_MAX),
            replicas=direct.announced(),
        )
        assert len(encode(announcement)) <= FRAME_BYTES_MAX
        await direct.close()

    async def test_draining_and_gone_are_told_at_once(self, book, replica):
        book.register(registration(replica.address))
        book.register(registration(replica.address, state="draining"))
        assert book.announced()[0].state == "draining"
        book.register(registration(replica.address, state="gone"))
        assert book.announced() == ()
        assert book.changes == [1, 1, 0]
        book.register(registration(replica.address, state="gone"))
        assert book.changes == [1, 1, 0]

    async def test_a_replica_that_moved_is_followed(self, book, replica):
        async with ScriptedReplica() as other:
            book.register(registration(replica.address))
            book.register(registration(other.address))
            assert book.find("r1").port == int(other.address.rsplit(":", 1)[1])
            await until(lambda: other.connections)

    @pytest.mark.parametrize(
        "address", ["", "x", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:0", ":80", "h:70000"]
    )
    async def test_an_address_that_is_none_is_refused(self, book, address):
        with pytest.raises(ValueError, match="host:port"):
            book.register(registration(address))

    async def test_capacity_is_at_least_one(self, book, replica):
        with pytest.raises(ValueError, match="capacity 0"):
            book.register(registration(replica.address, capacity=0))

    @pytest.mark.parametrize("secret", ["a\r\nEvil: 1", "\N{SNOWMAN}"])
    async def test_a_secret_must_fit_into_a_header(self, book, replica, secret):
        with pytest.raises(ValueError, match="secret"):
            book.register(registration(replica.address, secret=secret))

    async def test_there_is_a_limit(self, book, replica):
        for number in range(REPLICAS_MAX):
            book.register(registration(replica.address, replica_id=f"r{number}"))
        with pytest.raises(ValueError, match="128"):
            book.register(registration(replica.address, replica_id="one more"))
        # One that is here may go on registering.
        book.register(registration(replica.address, replica_id="r0"))


class TestWatch:
    async def test_a_port_that_closes_drops_the_replica_in_milliseconds(self, book):
        async with ScriptedReplica() as replica:
            book.register(registration(replica.address))
            await until(lambda: replica.connections)
        began_at = asyncio.get_running_loop().time()
        await until(lambda: not book.all(), every_s=0.001)
        assert asyncio.get_running_loop().time() - began_at < 15

    async def test_a_replica_that_never_listened_is_dropped(self, book):
        book.register(registration("127.0.0.1:1"))
        await until(lambda: not book.all())

    async def test_a_server_that_closes_idle_connections_is_not_dead(self):
        # Who registers late is probed meanwhile by connections of its own: not here.
        book = ReplicaBook(on_change=lambda: None, stale_s=600)
        async with closing_server(after_s=0.25) as (address, connections):
            book.register(registration(address))
            await until(lambda: len(connections) >= 4)
            assert book.all()
            await book.close()

    async def test_a_server_that_slams_every_connection_is_of_no_use(self, book):
        async with closing_server(after_s=0) as (address, connections):
            book.register(registration(address))
            await until(lambda: not book.all())
            assert len(connections) == 3

    async def test_a_silent_replica_is_probed_and_kept_while_it_listens(self, book, replica):
        book.register(registration(replica.address))
        await until(lambda: replica.connections >= 3)
        assert book.all()


class TestSplitAddress:
    def test_ipv6_too(self):
        assert split_address("[::1]:80") == ("::1", 80)
        assert split_address("127.0.0.1:8100") == ("127.0.0.1", 8100)
