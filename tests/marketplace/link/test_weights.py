"""What a node is told of weights and gets for its asks, by a node written by hand."""

import secrets

import pytest

from raymart_core.wire.link import (
    Announce,
    ArtifactAsk,
    ArtifactGrants,
    ArtifactRefusal,
    ModelCache,
    Prefetch,
)
from raymart_core.wire.peer_token import revision_of_token
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.objects import open_objects
from raymart_marketplace.supply.service import close_offer, offers_of
from support.link_market import link_market, make_supply
from support.object_settings import object_settings
from support.raw_node import HARDWARE, raw_node
from support.revisions import Revision
from support.stored_revision import offer_stored

SECRET = "s" * 32


@pytest.fixture
async def store_market(sessions, tmp_path):
    def objects(url):
        return open_objects(object_settings(data_dir=tmp_path, public_url=url))

    async with link_market(sessions, objects=objects) as market:
        yield market


@pytest.fixture
async def stored(store_market, supply, sessions):
    revision = Revision({"model.gguf": secrets.token_bytes(1000), "config.json": secrets.token_bytes(16)})
    await offer_stored(sessions, store_market.objects, revision, provider_id=supply.provider_id)
    return revision


async def enrolled(node, supply, name):
    await node.enrol(await supply.join_token(), name=name)
    await node.prove()


def announcement(*revisions, address="10.0.0.1:7000", secret=SECRET):
    cache = ModelCache(revisions=tuple(one.digest for one in revisions), address=address, secret=secret)
    return Announce(hardware=HARDWARE, replicas=(), cache=cache)


async def peers_of(node, revision):
    await node.say(ArtifactAsk(ask=9, revision=revision.digest))
    return (await node.hear_until(ArtifactGrants)).peers


class TestPrefetch:
    async def test_a_node_with_a_cache_is_told_what_is_placed_on_it(self, store_market, supply, stored):
        async with raw_node(store_market) as node:
            await enrolled(node, supply, "a")
            await node.say(announcement())
            # The bundled revision of the supply needs no cache.
            assert (await node.hear_until(Prefetch)).revisions == (stored.digest,)

    async def test_a_closed_offer_s_revision_is_not_wanted_any_more(
        self, store_market, supply, stored, sessions
    ):
        async with raw_node(store_market) as node:
            await enrolled(node, supply, "a")
            await node.say(announcement())
            await node.hear_until(Prefetch)
            async with session_scope(sessions) as session:
                for offer in await offers_of(session, supply.provider_id):
                    await close_offer(session, offer_id=offer.id)
            await store_market.directory.refresh()
            assert (await node.hear_until(Prefetch)).revisions == ()


class TestAsk:
    async def test_grants_hold_the_manifest_and_a_url_for_each_file(self, store_market, supply, stored):
        async with raw_node(store_market) as node:
            await enrolled(node, supply, "a")
            await node.say(ArtifactAsk(ask=5, revision=stored.digest))
            grants = await node.hear_until(ArtifactGrants)
        assert (grants.ask, grants.first, grants.files_total) == (5, 0, 2)
        assert grants.manifest.files == ()
        assert [(file.path, file.size) for file in grants.files] == [
            ("config.json", 16),
            ("model.gguf", 1000),
        ]
        assert all(file.url.startswith(store_market.url) and not file.data_key for file in grants.files)

    async def test_a_page_behind_the_end_is_empty(self, store_market, supply, stored):
        async with raw_node(store_market) as node:
            await enrolled(node, supply, "a")
            await node.say(ArtifactAsk(ask=5, revision=stored.digest, first=2))
            assert (await node.hear_until(ArtifactGrants)).files == ()

    @pytest.mark.parametrize("digest", ["sha256:" + "ab" * 32, "nonsense", ""])
    async def test_what_is_not_placed_here_is_refused(self, store_market, supply, stored, digest):
        async with raw_node(store_market) as node:
            await enrolled(node, supply, "a")
            await node.say(ArtifactAsk(ask=6, revision=digest))
            refusal = await node.hear_until(ArtifactRefusal)
        assert (refusal.ask, refusal.retry) == (6, False)

    async def test_a_store_that_is_away_may_be_asked_again(self, sessions, supply):
        def nowhere(url):
            return open_objects(object_settings(public_url=url))

        async with link_market(sessions, objects=nowhere) as market:
            revision = Revision({"model.gguf": secrets.token_bytes(10)})
            async with raw_node(market) as node:
                await enrolled(node, supply, "a")
                await offer_stored(sessions, _Discarding(), revision, provider_id=supply.provider_id)
                await node.say(ArtifactAsk(ask=7, revision=revision.digest))
                refusal = await node.hear_until(ArtifactRefusal)
        assert (refusal.ask, refusal.retry) == (7, True)

    async def test_a_marketplace_without_weights_says_so(self, market, supply):
        async with raw_node(market) as node:
            await enrolled(node, supply, "a")
            await node.say(ArtifactAsk(ask=8, revision=supply.digest))
            assert (await node.hear_until(ArtifactRefusal)).message == "this marketplace keeps no weights"


class TestPeers:
    async def test_a_node_of_the_pool_that_holds_it_is_named_with_a_token_of_its_own_secret(
        self, store_market, supply, stored
    ):
        async with raw_node(store_market) as holder, raw_node(store_market) as node:
            await enrolled(holder, supply, "a")
            await enrolled(node, supply, "b")
            await holder.say(announcement(stored))
            await holder.hear_until(Prefetch)
            (peer,) = await peers_of(node, stored)
            assert peer.address == "10.0.0.1:7000"
            expires = int(peer.token.partition(".")[0])
            assert revision_of_token(peer.token, secret=SECRET, now_s=expires - 10) == stored.digest

    async def test_a_holder_whose_link_is_gone_is_not_named(self, store_market, supply, stored):
        async with raw_node(store_market) as node:
            await enrolled(node, supply, "b")
            async with raw_node(store_market) as holder:
                await enrolled(holder, supply, "a")
                await holder.say(announcement(stored))
                await holder.hear_until(Prefetch)
                assert await peers_of(node, stored)
                await holder.socket.close()
            while await peers_of(node, stored):
                pass

    async def test_a_node_is_not_sent_to_itself(self, store_market, supply, stored):
        async with raw_node(store_market) as node:
            await enrolled(node, supply, "a")
            await node.say(announcement(stored))
            assert await peers_of(node, stored) == ()

    @pytest.mark.parametrize(
        ("address", "secret"),
        [
            ("8.8.8.8:80", SECRET),
            ("169.254.169.254:80", SECRET),
            ("0.0.0.0:80", SECRET),
            ("127.0.0.1:80", SECRET),
            ("metadata.internal:80", SECRET),
            ("10.0.0.1:0", SECRET),
            ("10.0.0.1", SECRET),
            ("", SECRET),
            ("10.0.0.1:7000", "short"),
        ],
    )
    async def test_no_node_is_sent_outside_to_its_own_loopback_or_to_what_is_no_address(
        self, store_market, supply, stored, address, secret
    ):
        async with raw_node(store_market) as holder, raw_node(store_market) as node:
            await enrolled(holder, supply, "a")
            await enrolled(node, supply, "b")
            await holder.say(announcement(stored, address=address, secret=secret))
            await holder.hear_until(Prefetch)
            assert await peers_of(node, stored) == ()

    async def test_on_one_machine_loopback_will_do(self, store_market, supply, stored):
        async with raw_node(store_market) as holder, raw_node(store_market) as node:
            await enrolled(holder, supply, "a")
            await enrolled(node, supply, "b")
            await holder.say(announcement(stored, address="127.0.0.1:7000"))
            await holder.hear_until(Prefetch)
            await node.say(announcement(address="127.0.0.1:7001"))
            assert [peer.address for peer in await peers_of(node, stored)] == ["127.0.0.1:7000"]

    async def test_a_node_of_another_pool_is_not_named(self, store_market, supply, stored, sessions):
        other = await make_supply(sessions)
        async with raw_node(store_market) as holder, raw_node(store_market) as node:
            await enrolled(holder, other, "a")
            await enrolled(node, supply, "b")
            await holder.say(announcement(stored))
            await holder.hear_until(Prefetch)
            assert await peers_of(node, stored) == ()


class _Discarding:
    """Keeps nothing: for grants, only the rows matter."""

    async def put(self, key, content):
        del key, content
