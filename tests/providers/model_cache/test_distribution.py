"""From the registry to a node's disk: a real marketplace, its object store, and real agents on one machine."""

import asyncio
import secrets

import pytest

from raymart_core.ids import Prefix, parse
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.objects import open_objects
from raymart_marketplace.supply.service import close_offer, offers_of
from raymart_providers.model_cache import ModelHost
from raymart_serve.models import WeightsUnavailable, checked_out
from support.link_market import link_market, until
from support.node_agents import running_agent
from support.object_settings import object_settings
from support.revisions import Revision
from support.stored_revision import offer_stored

KIB = 1024
KEYS = ModelKeys([b"k" * 32])


def revision(kib=300):
    """One that no other test has stored."""
    return Revision({"model.gguf": secrets.token_bytes(kib * KIB), "config.json": secrets.token_bytes(16)})


@pytest.fixture
async def market(sessions, tmp_path):
    def objects(url):
        return open_objects(object_settings(data_dir=tmp_path / "store", public_url=url))

    async with link_market(sessions, objects=objects, keys=KEYS) as market:
        yield market


@pytest.fixture
def node(market, supply, tmp_path):
    """Makes agents that have a model cache, each a context manager."""

    def node(name, *, token=None, **changes):
        def models(on_change):
            values = {"quota_bytes": 1 << 30, "plaintext": True, "artifact_host": "127.0.0.1", **changes}
            host = ModelHost(tmp_path / f"{name}-models", on_change=on_change, **values)
            hosts[name] = host
            return host

        return running_agent(tmp_path / name, market, token=token, models=models)

    hosts = node.hosts = {}
    return node


def source(revision):
    return {"source": f"registry:{revision.digest}", "sha256": revision.digest.removeprefix("sha256:")}


def has(node, name, wanted):
    return any(here.digest == wanted.digest for here in node.hosts[name].cached())


class TestFromTheRegistry:
    async def test_what_is_placed_is_fetched_before_a_replica_asks_and_then_loaded(
        self, market, supply, sessions, node, tmp_path
    ):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
        async with node("a", token=await supply.join_token()):
            await until(lambda: has(node, "a", wanted))
            async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json") as path:
                assert path.read_bytes() == wanted.files["model.gguf"]

    async def test_a_placement_made_later_is_told_at_once(self, market, supply, sessions, node):
        async with node("a", token=await supply.join_token()):
            wanted = revision()
            await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
            await market.directory.refresh()
            await until(lambda: has(node, "a", wanted), timeout_s=4)

    async def test_a_model_of_many_files_comes_in_several_messages(
        self, market, supply, sessions, node, tmp_path
    ):
        wanted = Revision({f"part-{number:04}.bin": secrets.token_bytes(9) for number in range(250)})
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
        async with node("a", token=await supply.join_token()):
            await until(lambda: has(node, "a", wanted))
            async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json") as path:
                assert (path / "part-0249.bin").read_bytes() == wanted.files["part-0249.bin"]

    async def test_what_is_not_placed_here_is_refused(self, market, supply, sessions, node, tmp_path):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
        async with session_scope(sessions) as session:
            for offer in await offers_of(session, supply.provider_id):
                await close_offer(session, offer_id=offer.id)
        async with node("a", token=await supply.join_token()):
            with pytest.raises(WeightsUnavailable, match="is not to run"):
                async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json"):
                    pass

    async def test_a_node_of_the_pool_gives_it_while_the_store_is_away(
        self, market, supply, sessions, node, tmp_path
    ):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
        async with node("a", token=await supply.join_token()) as holder:
            node_id = parse(Prefix.NODE, holder.report().node_id)
            await until(lambda: market.endpoint.holders.holds(node_id, wanted.digest))
            for file in (tmp_path / "store").rglob("artifacts/*"):
                file.unlink()
            async with node("b", token=await supply.join_token()):
                await until(lambda: has(node, "b", wanted))

    async def test_marketplace_and_store_away_what_is_cached_still_loads(
        self, market, supply, sessions, node, tmp_path
    ):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
        async with node("a", token=await supply.join_token()):
            await until(lambda: has(node, "a", wanted))
            await market.stop()
            async with (
                asyncio.timeout(30),
                checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json") as path,
            ):
                assert path.read_bytes() == wanted.files["model.gguf"]


class TestSealed:
    async def test_it_lies_sealed_in_the_cache_and_in_clear_only_while_it_is_loaded(
        self, market, supply, sessions, node, tmp_path
    ):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id, sealed_with=KEYS)
        plain = wanted.files["model.gguf"][1000:1064]
        models = tmp_path / "a-models"
        async with node("a", token=await supply.join_token()):
            await until(lambda: has(node, "a", wanted))
            assert not _holding(models, plain)
            async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json") as path:
                assert path.read_bytes() == wanted.files["model.gguf"]
                assert path.stat().st_mode & 0o777 == 0o400
                assert path.parent.parent.stat().st_mode & 0o777 == 0o700
                assert _holding(models, plain) == [path]
            assert not _holding(models, plain)

    async def test_a_restarted_agent_asks_for_the_keys_again(self, market, supply, sessions, node, tmp_path):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id, sealed_with=KEYS)
        async with node("a", token=await supply.join_token()):
            await until(lambda: has(node, "a", wanted))
        async with (
            node("a"),
            checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json") as path,
        ):
            assert path.read_bytes() == wanted.files["model.gguf"]

    async def test_a_damaged_sealed_file_is_fetched_again(self, market, supply, sessions, node, tmp_path):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id, sealed_with=KEYS)
        async with node("a", token=await supply.join_token()):
            await until(lambda: has(node, "a", wanted))
            blob = max((tmp_path / "a-models" / "blobs").iterdir(), key=lambda blob: blob.stat().st_size)
            content = bytearray(blob.read_bytes())
            content[5_000] ^= 1
            blob.chmod(0o644)
            blob.write_bytes(content)
            async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json") as path:
                assert path.read_bytes() == wanted.files["model.gguf"]


class TestStreamed:
    """A revision that the cache does not take, in a folder that stands for one in memory."""

    @pytest.mark.parametrize("sealed_with", [None, KEYS], ids=["plain", "sealed"])
    async def test_it_is_loaded_without_a_copy_in_the_cache(
        self, market, supply, node, tmp_path, sealed_with
    ):
        wanted, sessions = revision(), market.sessions
        await offer_stored(
            sessions, market.objects, wanted, provider_id=supply.provider_id, sealed_with=sealed_with
        )
        memory = tmp_path / "memory"
        token = await supply.join_token()
        async with node("a", token=token, quota_bytes=64 * KIB, memory=memory, streaming="full"):
            async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json") as path:
                assert path.is_relative_to(memory)
                assert {name: (path.parent / name).read_bytes() for name in wanted.files} == wanted.files
                assert list((tmp_path / "a-models" / "blobs").iterdir()) == []
                assert list((tmp_path / "a-models" / "partial").iterdir()) == []
            assert list(memory.iterdir()) == []

    async def test_where_it_is_switched_off_a_full_cache_fails(
        self, market, supply, sessions, node, tmp_path
    ):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
        token = await supply.join_token()
        async with node(
            "a", token=token, quota_bytes=64 * KIB, memory=tmp_path / "memory", streaming="never"
        ):
            with pytest.raises(WeightsUnavailable, match="do not fit"):
                async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json"):
                    pass

    async def test_what_is_damaged_in_the_store_is_never_loaded(
        self, market, supply, sessions, node, tmp_path
    ):
        wanted = revision()
        await offer_stored(sessions, market.objects, wanted, provider_id=supply.provider_id)
        (stored,) = (
            file
            for file in (tmp_path / "store").rglob("artifacts/*")
            if file.stat().st_size == len(wanted.files["model.gguf"])
        )
        stored.write_bytes(bytes(len(wanted.files["model.gguf"])))
        token = await supply.join_token()
        async with node("a", token=token, memory=tmp_path / "memory", streaming="always"):
            with pytest.raises(WeightsUnavailable, match="came out wrong"):
                async with checked_out(**source(wanted), agent_file=tmp_path / "a" / "agent.json"):
                    pass
        assert list((tmp_path / "memory").iterdir()) == []

    async def test_a_folder_that_others_may_enter_is_not_used(self, node, supply, tmp_path):
        (tmp_path / "memory").mkdir(mode=0o755)
        with pytest.raises(WeightsUnavailable, match="of this user alone"):
            async with node(
                "a", token=await supply.join_token(), memory=tmp_path / "memory", streaming="full"
            ):
                pass


def _holding(folder, plain):
    """Files below `folder` in which these bytes are."""
    return [path for path in folder.rglob("*") if path.is_file() and plain in path.read_bytes()]
