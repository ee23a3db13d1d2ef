"""A join token makes one node, in time, once, whatever races for it."""

import asyncio
import secrets

import msgspec
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError

from raymart_core.ids import new_id
from raymart_core.wire import link
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.enrolment import (
    LinkRefused,
    enrol,
    keep_hardware,
    node_for_hello,
)
from raymart_marketplace.supply.life_models import NodeEvent, NodeEventKind
from raymart_marketplace.supply.models import (
    JoinToken,
    Node,
    NodeRole,
    NodeState,
    Placement,
    Pool,
    Provider,
    ProviderState,
)
from raymart_marketplace.supply.service import create_join_token, open_offer, revoke_node
from support.market import enrol_message, make_node, make_pool, make_provider, make_revision, unique


async def supply(sessions: Sessions, *, house: bool = True) -> tuple[Pool, Provider]:
    """A fresh pool and an active provider; with `house` false the pool is the provider's own."""
    async with session_scope(sessions) as session:
        provider = await make_provider(session)
        return await make_pool(session, owner=None if house else provider), provider


async def token_for(
    sessions: Sessions, pool: Pool, provider: Provider | None, *, role: NodeRole = NodeRole.NODE
) -> str:
    async with session_scope(sessions) as session:
        _, text = await create_join_token(
            session, pool_id=pool.id, provider_id=provider.id if provider else None, role=role, user_id=None
        )
    return text


async def join(sessions: Sessions, message: link.Enrol) -> Node:
    async with session_scope(sessions) as session:
        return await enrol(session, message)


async def refusal_of(sessions: Sessions, message: link.Enrol) -> LinkRefused:
    with pytest.raises(LinkRefused) as refusal:
        await join(sessions, message)
    return refusal.value


async def is_spent(sessions: Sessions, pool: Pool) -> bool:
    """Whether the pool's only token is spent."""
    async with session_scope(sessions) as session:
        return (
            await session.scalars(select(JoinToken.used_at).where(JoinToken.pool_id == pool.id))
        ).one() is not None


class TestEnrol:
    async def test_token_makes_a_node_of_its_provider(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        message = enrol_message(await token_for(sessions, pool, provider), name="gpu-1.rack_2")
        node = await join(sessions, message)
        assert (node.pool_id, node.provider_id, node.role) == (pool.id, provider.id, NodeRole.NODE)
        assert (node.name, node.public_key, node.state) == (
            "gpu-1.rack_2",
            message.public_key,
            NodeState.ENROLLED,
        )
        assert node.hardware["cpu_count"] == 2
        assert await is_spent(sessions, pool)

    async def test_second_use_is_refused(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        token = await token_for(sessions, pool, provider)
        await join(sessions, enrol_message(token))
        refusal = await refusal_of(sessions, enrol_message(token))
        assert (refusal.reason, refusal.retry) == ("bad_token", False)

    async def test_of_forty_that_race_one_wins(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        token = await token_for(sessions, pool, provider)

        async def attempt() -> str:
            try:
                await join(sessions, enrol_message(token))
            except LinkRefused as refusal:
                return refusal.reason
            return "enrolled"

        outcomes = await asyncio.gather(*(attempt() for _ in range(40)))
        assert sorted(outcomes) == ["bad_token"] * 39 + ["enrolled"]
        async with session_scope(sessions) as session:
            assert await session.scalar(select(func.count()).where(Node.pool_id == pool.id)) == 1

    async def test_the_database_alone_lets_a_token_make_one_node(self, sessions: Sessions):
        """The second line of defence, should the check ever go."""
        pool, provider = await supply(sessions)
        node = await join(sessions, enrol_message(await token_for(sessions, pool, provider)))
        with pytest.raises(IntegrityError, match="uq_node_join_token_id"):
            async with session_scope(sessions) as session:
                session.add(
                    Node(
                        pool_id=pool.id,
                        provider_id=provider.id,
                        role=NodeRole.NODE,
                        name="another",
                        public_key=secrets.token_bytes(32),
                        join_token_id=node.join_token_id,
                        machine_id="",
                        hardware={},
                        state=NodeState.ENROLLED,
                    )
                )

    async def test_token_past_its_time_is_refused_by_the_databases_clock(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        token = await token_for(sessions, pool, provider)
        async with session_scope(sessions) as session:
            await session.execute(
                update(JoinToken)
                .where(JoinToken.pool_id == pool.id)
                .values(expires_at=func.clock_timestamp())
            )
        assert (await refusal_of(sessions, enrol_message(token))).reason == "bad_token"
        assert not await is_spent(sessions, pool)

    @pytest.mark.parametrize("token", ["", "rmj_", "rmj_" + "a" * 43, "a" * 60_000, "\0", "rmj_' or 1=1 --"])
    async def test_unknown_token_is_refused(self, sessions: Sessions, token: str):
        assert (await refusal_of(sessions, enrol_message(token))).reason == "bad_token"

    async def test_other_version_is_refused_before_the_token_is_looked_at(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        message = enrol_message(await token_for(sessions, pool, provider))
        refusal = await refusal_of(sessions, msgspec.structs.replace(message, version=2))
        assert refusal.reason == "version"
        assert "update the agent" in refusal.message
        assert not await is_spent(sessions, pool)

    @pytest.mark.parametrize(
        "name", ["", "a" * 64, "Node", "a b", "-a", "a-", "a\n", "a/b", "ä", "a\0", "a\u0661", "../a"]
    )
    async def test_name_that_is_no_label_is_refused(self, sessions: Sessions, name: str):
        """The name becomes a Ray label and a folder's name."""
        refusal = await refusal_of(sessions, msgspec.structs.replace(enrol_message("rmj_x"), name=name))
        assert refusal.reason == "limit"
        assert "node name" in refusal.message

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    async def test_key_of_another_length_is_refused(self, sessions: Sessions, length: int):
        message = msgspec.structs.replace(enrol_message("rmj_x"), public_key=b"k" * length)
        assert (await refusal_of(sessions, message)).reason == "limit"

    async def test_hardware_that_cannot_be_stored_is_refused(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        message = enrol_message(await token_for(sessions, pool, provider))
        for change in ({"hostname": "a\0b"}, {"machine_id": "a" * 201}, {"cpu_model": "\0"}):
            hardware = msgspec.structs.replace(message.hardware, **change)
            refusal = await refusal_of(sessions, msgspec.structs.replace(message, hardware=hardware))
            assert refusal.reason == "limit"
        assert not await is_spent(sessions, pool)

    @pytest.mark.parametrize(
        ("state", "retry"), [(ProviderState.SUSPENDED, True), (ProviderState.CLOSED, False)]
    )
    async def test_suspended_providers_machine_is_refused_and_keeps_its_token(
        self, sessions: Sessions, state: ProviderState, retry: bool
    ):
        pool, provider = await supply(sessions)
        message = enrol_message(await token_for(sessions, pool, provider))
        await set_state(sessions, provider, state)
        refusal = await refusal_of(sessions, message)
        assert (refusal.reason, refusal.retry) == ("revoked", retry)
        assert not await is_spent(sessions, pool)
        await set_state(sessions, provider, ProviderState.ACTIVE)
        await join(sessions, message)

    async def test_taken_name_is_refused_in_its_pool_only(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        other, _ = await supply(sessions)
        for wanted in (pool, other):
            await join(sessions, enrol_message(await token_for(sessions, wanted, provider), name="gpu-1"))
        token = await token_for(sessions, pool, provider)
        refusal = await refusal_of(sessions, enrol_message(token, name="gpu-1"))
        assert refusal.reason == "duplicate"
        assert "gpu-1" in refusal.message

    async def test_taken_key_is_refused(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        node = await join(sessions, enrol_message(await token_for(sessions, pool, provider)))
        token = await token_for(sessions, pool, provider)
        assert (
            await refusal_of(sessions, enrol_message(token, public_key=node.public_key))
        ).reason == "duplicate"

    async def test_revoked_nodes_name_and_machine_are_free_again(self, sessions: Sessions):
        pool, provider = await supply(sessions, house=False)
        first = await join(
            sessions, enrol_message(await token_for(sessions, pool, provider), name="gpu-1", machine_id="m1")
        )
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=first.id)
        again = await join(
            sessions, enrol_message(await token_for(sessions, pool, provider), name="gpu-1", machine_id="m1")
        )
        assert again.id != first.id

    async def test_node_is_wanted_to_run_the_providers_offers(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        async with session_scope(sessions) as session:
            revision = await make_revision(session)
            await open_offer(
                session,
                provider_id=provider.id,
                revision_id=revision.id,
                ask_prompt_nano_usd=1,
                ask_completion_nano_usd=2,
            )
        node = await join(sessions, enrol_message(await token_for(sessions, pool, provider)))
        async with session_scope(sessions) as session:
            wanted = (
                await session.scalars(select(Placement.revision_id).where(Placement.node_id == node.id))
            ).all()
        assert wanted == [revision.id]

    async def test_house_controller_belongs_to_no_provider(self, sessions: Sessions):
        pool, _ = await supply(sessions)
        token = await token_for(sessions, pool, None, role=NodeRole.CONTROLLER)
        node = await join(sessions, enrol_message(token, name="controller"))
        assert (node.role, node.provider_id) == (NodeRole.CONTROLLER, None)


class TestMachine:
    async def test_two_providers_nodes_share_a_machine_of_a_house_pool(self, sessions: Sessions):
        """The embedded stack is one machine that stands for two providers."""
        pool, first = await supply(sessions)
        _, second = await supply(sessions)
        machine = unique("machine")
        for provider in (first, second):
            await join(sessions, enrol_message(await token_for(sessions, pool, provider), machine_id=machine))
        token = await token_for(sessions, pool, None, role=NodeRole.CONTROLLER)
        await join(sessions, enrol_message(token, machine_id=machine))

    @pytest.mark.parametrize("same_provider", [True, False])
    async def test_machine_of_a_provider_pool_carries_one_node(self, sessions: Sessions, same_provider: bool):
        pool, provider = await supply(sessions, house=False)
        machine = unique("machine")
        await join(
            sessions,
            enrol_message(await token_for(sessions, pool, provider), name="gpu-1", machine_id=machine),
        )
        if not same_provider:
            pool, provider = await supply(sessions, house=False)
        refusal = await refusal_of(
            sessions, enrol_message(await token_for(sessions, pool, provider), machine_id=machine)
        )
        assert (refusal.reason, refusal.retry) == ("duplicate", False)
        assert "'gpu-1'" in refusal.message

    async def test_machine_belongs_to_one_pool_even_if_that_is_a_house_pool(self, sessions: Sessions):
        house, provider = await supply(sessions)
        other_house, _ = await supply(sessions)
        async with session_scope(sessions) as session:
            own = await make_pool(session, owner=provider)
        machine = unique("machine")
        await join(sessions, enrol_message(await token_for(sessions, house, provider), machine_id=machine))
        for pool in (other_house, own):
            token = await token_for(sessions, pool, provider)
            assert (
                await refusal_of(sessions, enrol_message(token, machine_id=machine))
            ).reason == "duplicate"

    async def test_second_enrolment_of_a_machine_waits_for_the_first(self, sessions: Sessions):
        """Without waiting, neither would see the other, and both would be let in."""
        machine = unique("machine")
        markets = [await supply(sessions, house=False) for _ in range(2)]
        tokens = [await token_for(sessions, pool, provider) for pool, provider in markets]
        async with session_scope(sessions) as session:
            await enrol(session, enrol_message(tokens[0], machine_id=machine))
            second = asyncio.create_task(refusal_of(sessions, enrol_message(tokens[1], machine_id=machine)))
            async with asyncio.timeout(30):
                while not await somebody_waits(sessions):
                    assert not second.done(), "the second enrolment did not wait"
        assert (await second).reason == "duplicate"

    async def test_machines_that_cannot_say_who_they_are_are_not_compared(self, sessions: Sessions):
        pool, provider = await supply(sessions, house=False)
        for _ in range(2):
            await join(sessions, enrol_message(await token_for(sessions, pool, provider), machine_id=""))


class TestNodeForHello:
    async def test_node_is_known_with_its_pool_and_provider(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        async with session_scope(sessions) as session:
            node = await make_node(session, pool=pool, provider=provider)
        async with session_scope(sessions) as session:
            identity = await node_for_hello(session, node.id, NodeRole.NODE)
        assert (identity.node_id, identity.name, identity.role) == (node.id, node.name, NodeRole.NODE)
        assert (identity.pool_id, identity.pool_slug, identity.region) == (pool.id, pool.slug, "local")
        assert (identity.provider_id, identity.provider_slug) == (provider.id, provider.slug)
        assert identity.public_key == node.public_key

    async def test_house_controller_has_no_provider(self, sessions: Sessions):
        pool, _ = await supply(sessions)
        async with session_scope(sessions) as session:
            node = await make_node(session, pool=pool, provider=None, role=NodeRole.CONTROLLER)
            identity = await node_for_hello(session, node.id, NodeRole.CONTROLLER)
        assert (identity.provider_id, identity.provider_slug) == (None, None)

    async def test_stranger_and_wrong_role_are_unknown(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        async with session_scope(sessions) as session:
            node = await make_node(session, pool=pool, provider=provider)
            for node_id, role in ((new_id(), NodeRole.NODE), (node.id, NodeRole.CONTROLLER)):
                with pytest.raises(LinkRefused) as refusal:
                    await node_for_hello(session, node_id, role)
                assert (refusal.value.reason, refusal.value.retry) == ("unknown_node", False)

    async def test_revoked_node_is_refused(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        async with session_scope(sessions) as session:
            node = await make_node(session, pool=pool, provider=provider)
            await revoke_node(session, node_id=node.id)
            with pytest.raises(LinkRefused) as refusal:
                await node_for_hello(session, node.id, NodeRole.NODE)
        assert (refusal.value.reason, refusal.value.retry) == ("revoked", False)

    @pytest.mark.parametrize(
        ("state", "retry"), [(ProviderState.SUSPENDED, True), (ProviderState.CLOSED, False)]
    )
    async def test_suspended_providers_node_is_refused(self, sessions: Sessions, state, retry):
        pool, provider = await supply(sessions)
        async with session_scope(sessions) as session:
            node = await make_node(session, pool=pool, provider=provider)
        await set_state(sessions, provider, state)
        async with session_scope(sessions) as session:
            with pytest.raises(LinkRefused) as refusal:
                await node_for_hello(session, node.id, NodeRole.NODE)
        assert (refusal.value.reason, refusal.value.retry) == ("revoked", retry)


class TestKeepHardware:
    async def test_what_a_node_announces_is_kept(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        async with session_scope(sessions) as session:
            node = await make_node(session, pool=pool, provider=provider)
        hardware = link.Hardware(
            hostname="h",
            cpu_model="c",
            cpu_count=64,
            memory_bytes=2**40,
            gpus=(link.Gpu(unique("GPU"), "H200", 2**37, "580"),),
        )
        async with session_scope(sessions) as session:
            await keep_hardware(session, node.id, hardware)
        async with session_scope(sessions) as session:
            seen = await session.get_one(Node, node.id)
        assert seen.hardware["gpus"][0]["model"] == "H200"

    async def test_a_card_that_is_another_nodes_is_refused_whenever_it_appears(self, sessions: Sessions):
        pool, provider = await supply(sessions, house=False)
        card = unique("GPU")
        owner = await join(sessions, with_gpus(await message_for(sessions, pool, provider), card))
        late = with_gpus(await message_for(sessions, pool, provider), unique("GPU"), card)
        refused = await refusal_of(sessions, late)
        assert (refused.reason, refused.retry) == ("duplicate", False)
        assert "a GPU" in refused.message
        assert owner.name in refused.message
        second = await join(sessions, await message_for(sessions, pool, provider))
        async with session_scope(sessions) as session:
            with pytest.raises(LinkRefused, match="a GPU of this machine"):
                await keep_hardware(session, second.id, late.hardware)
            await keep_hardware(session, owner.id, with_gpus(late, card).hardware)

    async def test_a_machine_that_becomes_another_nodes_is_refused(self, sessions: Sessions):
        pool, provider = await supply(sessions, house=False)
        first = await message_for(sessions, pool, provider)
        await join(sessions, first)
        second = await join(sessions, await message_for(sessions, pool, provider))
        async with session_scope(sessions) as session:
            with pytest.raises(LinkRefused, match="this machine is"):
                await keep_hardware(session, second.id, first.hardware)

    async def test_a_revoked_nodes_card_may_enrol_again(self, sessions: Sessions):
        pool, provider = await supply(sessions, house=False)
        card = unique("GPU")
        node = await join(sessions, with_gpus(await message_for(sessions, pool, provider), card))
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=node.id)
        await join(sessions, with_gpus(await message_for(sessions, pool, provider), card))

    async def test_what_changed_of_a_machine_is_in_its_history(self, sessions: Sessions):
        pool, provider = await supply(sessions, house=False)
        message = with_gpus(await message_for(sessions, pool, provider), unique("GPU"))
        node = await join(sessions, message)
        anonymous = msgspec.structs.replace(message.hardware, machine_id="")
        changed = with_gpus(message, unique("GPU"), unique("GPU")).hardware
        for hardware in (message.hardware, anonymous, changed):
            async with session_scope(sessions) as session:
                await keep_hardware(session, node.id, hardware)
        async with session_scope(sessions) as session:
            found = select(NodeEvent.reason).where(
                NodeEvent.node_id == node.id, NodeEvent.event == NodeEventKind.HARDWARE_CHANGED
            )
            assert (await session.scalars(found)).all() == ["2 GPUs more, 1 GPUs less"]
            assert (await session.get_one(Node, node.id)).machine_id == message.hardware.machine_id

    async def test_two_nodes_of_a_house_pool_may_show_the_same_card(self, sessions: Sessions):
        """The embedded stack's two nodes are one machine."""
        pool, provider = await supply(sessions)
        card = unique("GPU")
        for _ in range(2):
            await join(sessions, with_gpus(await message_for(sessions, pool, provider), card))

    async def test_a_machine_with_a_thousand_cards_is_refused(self, sessions: Sessions):
        pool, provider = await supply(sessions)
        message = await message_for(sessions, pool, provider)
        refused = await refusal_of(sessions, with_gpus(message, *map(str, range(1_000))))
        assert refused.reason == "limit"

    async def test_hardware_that_cannot_be_stored_is_refused(self, sessions: Sessions):
        hardware = link.Hardware(hostname="\0", cpu_model="c", cpu_count=1, memory_bytes=1)
        async with session_scope(sessions) as session:
            with pytest.raises(LinkRefused, match="NUL"):
                await keep_hardware(session, new_id(), hardware)


async def message_for(sessions: Sessions, pool: Pool, provider: Provider) -> link.Enrol:
    """Of a fresh machine with a fresh token."""
    return enrol_message(await token_for(sessions, pool, provider))


def with_gpus(message: link.Enrol, *uuids: str) -> link.Enrol:
    gpus = tuple(link.Gpu(uuid, "H200", 2**37, "580") for uuid in uuids)
    return msgspec.structs.replace(message, hardware=msgspec.structs.replace(message.hardware, gpus=gpus))


async def somebody_waits(sessions: Sessions) -> bool:
    """Whether a session waits for an advisory lock."""
    async with session_scope(sessions) as session:
        waiting = text("select exists (select from pg_locks where locktype = 'advisory' and not granted)")
        return bool(await session.scalar(waiting))


async def set_state(sessions: Sessions, provider: Provider, state: ProviderState) -> None:
    async with session_scope(sessions) as session:
        await session.execute(update(Provider).where(Provider.id == provider.id).values(state=state))
