"""What the worker does about reconciliation by itself: one run a night, and mails about what it found."""

from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from raymart_billing.mail import FolderChannel
from raymart_billing.payouts.reconciliation import tasks
from raymart_billing.payouts.reconciliation.mailing import tell_differences
from raymart_core.ids import new_id
from support.dev_chain import USDC
from support.reconciling import Reconciling

PLATFORM_FINANCE = """
insert into membership (id, organization_id, user_id, role)
select gen_random_uuid(), id, %s, 'finance' from organization where kind = 'platform'
"""


async def finance(world: Reconciling) -> str:
    """The address of somebody of the platform's who manages payouts."""
    user_id: UUID = await world.sending.rows.person()
    if not await world.sending.rows.fetch("select 1 from organization where kind = 'platform'"):
        await world.sending.rows.fetch(
            "insert into organization (id, slug, name, kind) values (%s, 'platform', 'P', 'platform')",
            new_id(),
        )
    await world.sending.rows.fetch(PLATFORM_FINANCE, user_id)
    return f"{user_id.hex}@example.com"


class TestNightly:
    async def test_a_day_has_one_run_and_a_process_without_a_chain_asks_for_none(
        self, world: Reconciling, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(tasks, "NIGHT_HOUR_UTC", 0)
        [nightly] = tasks.PERIODICS
        asked = "select count(*) from outbox where task = 'payouts.reconcile'"
        await nightly.handle(SimpleNamespace(sessions=world.sessions, chain=None))
        assert await world.sending.rows.value(asked) == 0
        for _ in range(2):
            await nightly.handle(SimpleNamespace(sessions=world.sessions, chain=world.sending.chain))
        assert await world.sending.rows.value(asked) == 1
        since = await world.sending.rows.value("select created_at - since from reconciliation_run")
        assert since.days in {34, 35}


class TestMail:
    async def test_who_manages_payouts_is_told_each_new_difference_by_its_row(
        self, world: Reconciling, tmp_path: Path
    ):
        payees = await world.paid(5 * USDC)
        address = await finance(world)
        world.edit("update payout_item set amount_micro_usdc = amount_micro_usdc + 1")
        run = await world.run()
        told = await world.sending.rows.value(
            "select count(*) from outbox where task = 'payouts.tell_differences' and subject = %s",
            str(run.id),
        )
        channel = FolderChannel(folder=tmp_path, sender="Raymart <no-reply@localhost>")
        assert (told, await tell_differences(world.sessions, channel, run.id)) == (1, 1)
        [mail] = [path.read_text() for path in tmp_path.iterdir()]
        assert address in mail
        assert str(payees.items[0]) in mail.replace("=\n", "")
        assert "Payouts are stopped" in mail.replace("=\n", "")
