"""The inbox: once, however often and however concurrently a message is delivered."""

import asyncio

from raymart_billing.work import inbox
from raymart_core.ids import new_id
from raymart_marketplace.db.session import session_scope


class TestFirstTime:
    async def test_a_second_delivery_is_known(self, sessions):
        message = new_id().hex
        for expected in (True, False):
            async with session_scope(sessions) as session:
                assert await inbox.first_time(session, source="stripe", message_id=message) is expected

    async def test_another_source_may_use_the_same_id(self, sessions):
        message = new_id().hex
        async with session_scope(sessions) as session:
            assert await inbox.first_time(session, source="stripe", message_id=message)
            assert await inbox.first_time(session, source="bank", message_id=message)

    async def test_a_rolled_back_delivery_did_not_happen(self, sessions):
        message = new_id().hex
        async with sessions() as session:
            assert await inbox.first_time(session, source="stripe", message_id=message)
            await session.rollback()
        async with session_scope(sessions) as session:
            assert await inbox.first_time(session, source="stripe", message_id=message)

    async def test_five_at_once_are_one_first(self, sessions):
        message = new_id().hex

        async def deliver():
            async with session_scope(sessions) as session:
                return await inbox.first_time(session, source="stripe", message_id=message)

        assert sorted(await asyncio.gather(*[deliver() for _ in range(5)])) == [False] * 4 + [True]
