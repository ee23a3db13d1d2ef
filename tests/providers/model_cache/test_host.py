"""A node's model cache between replicas, a scripted marketplace, a real object store and real other nodes."""

import asyncio
import random
import time
from pathlib import Path

import msgspec
import pytest

from raymart_core.wire.link import ArtifactRefusal, PeerGrant, Prefetch
from raymart_core.wire.peer_token import make_peer_token
from raymart_serve.models.agent_api import DamagedArtifact, OpenModel
from raymart_serve.models.cache import pinned, read_revision
from raymart_serve.models.weights import WeightsUnavailable
from support.range_server import range_server
from support.revisions import Revision

KIB = 1024


def revision(seed=1, kib=300):
    return Revision({"model.gguf": random.Random(seed).randbytes(kib * KIB), "config.json": b"{}"})


async def settled(host, wanted):
    """The state in which the agent leaves a replica that asks for `wanted`, and the percents on the way."""
    percents = []
    async with asyncio.timeout(30):
        while (state := host.open(OpenModel(revision=wanted.digest))).state == "fetching":
            percents.append(state.percent)
            await asyncio.sleep(0.005)
    return state, percents


async def until(true):
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture
def serve(marketplace, origin):
    """Lets marketplace and object store have revisions."""
    revisions = {}

    def serve(*more, **changes):
        for one in more:
            revisions[one.digest] = one
            origin.files |= one.objects
        marketplace.answer = lambda ask: revisions[ask.revision].grants(ask, origin=origin.url, **changes)

    return serve


class TestOpen:
    async def test_a_replica_gets_a_folder_whose_files_are_the_revision_s(
        self, make_host, marketplace, serve
    ):
        wanted = revision()
        serve(wanted)
        host = await make_host()
        marketplace.connect(host)
        state, _ = await settled(host, wanted)
        assert state.state == "ready", state
        found = read_revision(Path(state.root), wanted.digest)
        assert {path: (found.files / path).read_bytes() for path in wanted.files} == wanted.files

    async def test_many_replicas_share_one_fetch(self, make_host, marketplace, origin, serve):
        wanted = revision()
        serve(wanted)
        host = await make_host()
        marketplace.connect(host)
        states = await asyncio.gather(*(settled(host, wanted) for _ in range(5)))
        assert [state.state for state, _ in states] == ["ready"] * 5
        assert len(marketplace.asks) == 1
        assert len({(path, first) for path, first, _, _ in origin.asked}) == len(origin.asked)

    async def test_a_model_of_many_files_comes_page_by_page(self, make_host, marketplace, serve):
        wanted = Revision({f"part-{number:02}.bin": bytes([number]) for number in range(7)})
        serve(wanted, page=3)
        host = await make_host()
        marketplace.connect(host)
        state, _ = await settled(host, wanted)
        assert state.state == "ready"
        assert [ask.first for ask in marketplace.asks] == [0, 3, 6]

    async def test_what_is_here_needs_neither_marketplace_nor_origin(
        self, make_host, marketplace, origin, serve, tmp_path
    ):
        wanted = revision()
        serve(wanted)
        first = await make_host(folder=tmp_path / "kept")
        marketplace.connect(first)
        await settled(first, wanted)
        await first.close()
        origin.fault = lambda handler, *_: not handler.refuse(503)
        again = await make_host(folder=tmp_path / "kept")
        state, _ = await settled(again, wanted)
        assert state.state == "ready"
        assert len(marketplace.asks) == 1

    async def test_artifacts_that_another_revision_has_are_not_fetched_again(
        self, make_host, marketplace, origin, serve
    ):
        first = revision()
        second = Revision({**first.files, "template.jinja": b"{{ messages }}"})
        serve(first, second)
        host = await make_host()
        marketplace.connect(host)
        await settled(host, first)
        origin.asked.clear()
        await settled(host, second)
        assert len(origin.asked) == 1

    async def test_a_name_that_is_no_digest_fails(self, make_host):
        host = await make_host()
        assert host.open(OpenModel(revision="sha256:../../etc")).state == "failed"

    async def test_a_damaged_artifact_is_fetched_again(self, make_host, marketplace, serve):
        wanted = revision()
        serve(wanted)
        host = await make_host()
        marketplace.connect(host)
        state, _ = await settled(host, wanted)
        path = Path(state.root) / "files" / "model.gguf"
        path.chmod(0o644)
        path.write_bytes(b"rotten")
        host.damaged(DamagedArtifact(revision=wanted.digest, path="model.gguf"))
        await until(lambda: not host.cached())
        state, _ = await settled(host, wanted)
        assert (Path(state.root) / "files" / "model.gguf").read_bytes() == wanted.files["model.gguf"]


class TestTrouble:
    async def test_it_waits_for_the_link_and_says_so(self, make_host, marketplace, serve):
        wanted = revision()
        serve(wanted)
        host = await make_host()
        await until(lambda: "no link" in host.open(OpenModel(revision=wanted.digest)).reason)
        marketplace.connect(host)
        assert (await settled(host, wanted))[0].state == "ready"

    async def test_a_link_that_is_lost_in_mid_question_is_followed_by_the_next(
        self, make_host, marketplace, serve
    ):
        wanted = revision()
        host = await make_host()
        marketplace.connect(host)
        host.open(OpenModel(revision=wanted.digest))
        await until(lambda: marketplace.asks)
        host.down()
        serve(wanted)
        marketplace.connect(host)
        assert (await settled(host, wanted))[0].state == "ready"

    async def test_an_origin_that_is_away_is_waited_for(self, make_host, marketplace, origin, serve):
        wanted = revision()
        serve(wanted)
        origin.fault = lambda handler, *_: not handler.refuse(503)
        host = await make_host()
        outbox = marketplace.connect(host)
        await until(lambda: "503" in host.open(OpenModel(revision=wanted.digest)).reason)
        origin.fault = None
        host.up(outbox)
        assert (await settled(host, wanted))[0].state == "ready"

    async def test_an_expired_url_is_renewed_and_what_has_arrived_stays(
        self, make_host, marketplace, origin, serve
    ):
        wanted = revision(kib=640)
        serve(wanted, query="?e=old")

        def expire(handler, _path, first, _last):
            if first >= 320 * KIB and "e=old" in handler.path:
                serve(query="?e=new")
                handler.refuse(403)
                return True
            return False

        origin.fault = expire
        host = await make_host()
        marketplace.connect(host)
        assert (await settled(host, wanted))[0].state == "ready"
        assert all(
            first >= 320 * KIB for path, first, last, _ in origin.asked if "e=new" in path and last > 2
        )

    async def test_a_final_refusal_is_told_and_the_next_ask_tries_again(self, make_host, marketplace, serve):
        wanted = revision()
        host = await make_host()
        marketplace.connect(host)
        marketplace.answer = lambda ask: ArtifactRefusal(ask=ask.ask, message="not placed here", retry=False)
        state, _ = await settled(host, wanted)
        assert (state.state, state.reason) == ("failed", "not placed here")
        serve(wanted)
        assert (await settled(host, wanted))[0].state == "ready"

    async def test_another_revision_than_asked_for_is_not_taken(self, make_host, marketplace, origin, serve):
        wanted, other = revision(1), revision(2)
        serve(wanted, other)
        marketplace.answer = lambda ask: other.grants(ask, origin=origin.url)
        host = await make_host()
        marketplace.connect(host)
        state, _ = await settled(host, wanted)
        assert (state.state, origin.asked) == ("failed", [])
        assert "describes another revision" in state.reason

    @pytest.mark.parametrize("path", ["../evil", "/etc/cron.d/evil", ".hidden", "a//b", "a/./b"])
    async def test_a_path_that_leaves_the_folder_is_refused(
        self, make_host, marketplace, origin, serve, path
    ):
        wanted = Revision({path: b"evil"})
        serve(wanted)
        host = await make_host()
        marketplace.connect(host)
        assert (await settled(host, wanted))[0].state == "failed"
        assert origin.asked == []

    async def test_a_false_name_of_the_stored_bytes_is_refused(self, make_host, marketplace, origin, serve):
        wanted = revision()
        serve(wanted)

        def lie(ask):
            grants = wanted.grants(ask, origin=origin.url)
            false = tuple(msgspec.structs.replace(file, stored_sha256="../../x") for file in grants.files)
            return msgspec.structs.replace(grants, files=false)

        marketplace.answer = lie
        host = await make_host()
        marketplace.connect(host)
        assert (await settled(host, wanted))[0].state == "failed"

    async def test_what_comes_out_wrong_everywhere_fails_and_is_not_served(
        self, make_host, marketplace, origin, serve
    ):
        wanted = revision()
        serve(wanted)
        origin.files = {path: b"x" * len(content) for path, content in origin.files.items()}
        host = await make_host()
        marketplace.connect(host)
        state, _ = await settled(host, wanted)
        assert state.state == "failed"
        assert "came out wrong" in state.reason
        assert host.cached() == ()

    async def test_what_does_not_fit_fails_with_the_figures(self, make_host, marketplace, serve):
        wanted = revision()
        serve(wanted)
        host = await make_host(quota_bytes=100 * KIB)
        marketplace.connect(host)
        state, _ = await settled(host, wanted)
        assert state.state == "failed"
        assert "RAYMART_MODEL_CACHE_BYTES" in state.reason

    async def test_an_unencrypted_origin_is_not_asked_by_a_node_with_an_encrypted_link(
        self, make_host, marketplace, origin, serve
    ):
        wanted = revision()
        serve(wanted)
        host = await make_host(plaintext=False)
        marketplace.connect(host)
        await until(lambda: "no source has it" in host.open(OpenModel(revision=wanted.digest)).reason)
        assert origin.asked == []

    async def test_a_second_agent_does_not_get_the_folder(self, make_host, tmp_path):
        await make_host(folder=tmp_path / "one")
        with pytest.raises(WeightsUnavailable, match="another agent"):
            await make_host(folder=tmp_path / "one")


class TestPeers:
    async def test_a_node_of_the_pool_gives_what_it_has_and_the_origin_is_not_asked(
        self, make_host, marketplace, origin, serve
    ):
        wanted = revision()
        serve(wanted)
        changed = asyncio.Event()
        has = await make_host(artifact_host="127.0.0.1", on_change=changed.set)
        marketplace.connect(has)
        await settled(has, wanted)
        assert changed.is_set()
        announced = has.announced()
        assert announced.revisions == (wanted.digest,)
        token = make_peer_token(announced.secret, revision=wanted.digest, expires_s=int(time.time()) + 60)
        serve(peers=(PeerGrant(address=announced.address, token=token),))
        origin.asked.clear()
        lacks = await make_host()
        marketplace.connect(lacks)
        assert (await settled(lacks, wanted))[0].state == "ready"
        assert origin.asked == []

    @pytest.mark.parametrize(
        "address",
        ["169.254.169.254:80", "8.8.8.8:80", "example.com:80", "127.0.0.1:0", "0.0.0.0:80", "nothing"],
    )
    async def test_an_address_outside_the_pool_is_not_connected_to(
        self, make_host, marketplace, origin, serve, address
    ):
        wanted = revision()
        serve(wanted, peers=(PeerGrant(address=address, token="t"),))
        host = await make_host()
        marketplace.connect(host)
        assert (await settled(host, wanted))[0].state == "ready"
        assert origin.asked

    async def test_a_name_is_no_address(self, make_host, marketplace, origin, serve):
        wanted = revision()
        with range_server(
            {f"/artifacts{path}": content for path, content in wanted.objects.items()}
        ) as other:
            serve(wanted, peers=(PeerGrant(address=f"localhost:{other.url.rpartition(':')[2]}", token="t"),))
            host = await make_host()
            marketplace.connect(host)
            assert (await settled(host, wanted))[0].state == "ready"
            assert other.asked == []

    async def test_a_node_that_shares_nothing_announces_no_address(self, make_host):
        announced = (await make_host()).announced()
        assert (announced.address, announced.secret) == ("", "")


class TestPrefetch:
    async def test_what_will_be_needed_is_fetched_without_a_replica(self, make_host, marketplace, serve):
        first, second = revision(1), revision(2)
        serve(first, second)
        host = await make_host()
        marketplace.connect(host)
        host.take(Prefetch(revisions=(first.digest, second.digest)))
        await until(lambda: {here.digest for here in host.cached()} == {first.digest, second.digest})

    async def test_what_is_wanted_is_not_thrown_away_for_what_is_wanted_too(
        self, make_host, marketplace, serve
    ):
        first, second, third, small = revision(1), revision(2), revision(3), revision(4, 10)
        serve(first, second, third, small)
        host = await make_host(quota_bytes=700 * KIB)
        marketplace.connect(host)
        host.take(Prefetch(revisions=(first.digest, second.digest, third.digest, small.digest)))
        # They are fetched in this order, so the third has had its turn when the last is here.
        await until(lambda: any(here.digest == small.digest for here in host.cached()))
        assert {here.digest for here in host.cached()} == {first.digest, second.digest, small.digest}

    async def test_a_replica_that_waits_gets_room_made(self, make_host, marketplace, serve):
        first, second, third = revision(1, 300), revision(2, 300), revision(3, 300)
        serve(first, second, third)
        host = await make_host(quota_bytes=700 * KIB)
        marketplace.connect(host)
        host.take(Prefetch(revisions=(first.digest, second.digest)))
        await until(lambda: len(host.cached()) == 2)
        with pinned(host.cached()[0]):
            loaded = host.cached()[0].digest
            assert (await settled(host, third))[0].state == "ready"
        assert {here.digest for here in host.cached()} == {loaded, third.digest}

    async def test_closing_in_mid_fetch_keeps_what_has_arrived(
        self, make_host, marketplace, origin, serve, tmp_path
    ):
        wanted = revision(kib=640)
        serve(wanted)
        origin.fault = lambda handler, _path, first, _last: (
            first >= 320 * KIB and (time.sleep(0.1), handler.refuse(503))
        )
        host = await make_host(folder=tmp_path / "kept")
        marketplace.connect(host)
        host.take(Prefetch(revisions=(wanted.digest,)))
        await until(lambda: any(first >= 320 * KIB for _, first, _, _ in origin.asked))
        await host.close()
        origin.fault, origin.asked = None, []
        again = await make_host(folder=tmp_path / "kept")
        marketplace.connect(again)
        assert (await settled(again, wanted))[0].state == "ready"
        assert all(first > 0 for _, first, last, _ in origin.asked if last > 2)
