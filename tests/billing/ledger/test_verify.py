"""A verification names the row that somebody edited behind the guards, as a superuser with the triggers off can."""

import pytest

from raymart_billing.ledger.verify import Check, verify
from raymart_billing.seals.head import Head
from raymart_core.ids import new_id
from support.books import fetch
from support.leases import LeaseDesk
from support.sealed_books import SEAL_KEY, trade

CHARGE = "(select min(id) from transfer where code = 'usage_charge')"
BALANCE = "(select min(id) from ledger_account where kind = 'customer_balance')"


async def tamper(connection, *statements):
    async with connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)


async def value(connection, statement):
    [[found]] = await fetch(connection, statement)
    return found


async def head_of(connection):
    [(position, digest)] = await fetch(
        connection, "select position, hash from transfer_seal order by position desc limit 1"
    )
    return Head(position=position, hash=digest)


class TestSoundBooks:
    async def test_nothing_is_found_and_everything_is_sealed(self, sound):
        found = await verify(sound, key=SEAL_KEY, head=await head_of(sound))
        assert found.findings == []
        assert found.chain.unsealed == 0
        assert found.chain.sealed == await value(sound, "select count(*) from transfer")
        assert found.chain.head == await head_of(sound)

    async def test_what_came_after_the_last_seal_is_counted_and_no_fault(self, sound, sound_books):
        await trade(sound_books)
        found = await verify(sound, key=SEAL_KEY, head=await head_of(sound))
        assert found.findings == []
        assert found.chain.unsealed > 0

    async def test_the_wrong_key_fits_no_seal(self, sound):
        found = await verify(sound, key=b"w" * 32, head=None)
        assert found.findings[0].check is Check.CHAIN

    async def test_without_the_key_seals_are_counted(self, sound):
        await tamper(sound, f"update transfer set key = 'other' where id = {CHARGE}")
        found = await verify(sound, key=None, head=None)
        assert found.findings == []
        assert not found.chain.are_hashes_checked


EDITS = {
    "amount": f"update transfer set amount = amount + 1 where id = {CHARGE}",
    "code": "update transfer set code = 'hold_expired' where id = (select min(id) from transfer where code = 'hold_released')",
    "key": f"update transfer set key = 'other' where id = {CHARGE}",
    "created_at": f"update transfer set created_at = created_at - interval '1 hour' where id = {CHARGE}",
    "created_at_never": f"update transfer set created_at = '-infinity' where id = {CHARGE}",
    "actor": f"update transfer set actor_id = gen_random_uuid() where id = {CHARGE}",
    "accounts": (
        "update transfer set credit_account_id = (select max(id) from ledger_account where kind = 'provider_payable')"
        " where id = (select min(id) from transfer where code = 'usage_earning')"
    ),
    "owner_of_an_account": f"update ledger_account set owner_id = gen_random_uuid() where id = {BALANCE}",
}


class TestEditedRows:
    @pytest.mark.parametrize("name", EDITS)
    async def test_an_edited_transfer_is_named_first(self, sound, name):
        await tamper(sound, EDITS[name])
        changed = {
            "code": "(select min(id) from transfer where code = 'hold_expired')",
            "accounts": "(select min(id) from transfer where code = 'usage_earning')",
            "owner_of_an_account": (
                f"(select min(id) from transfer where {BALANCE} in (debit_account_id, credit_account_id))"
            ),
        }.get(name, "(select min(id) from transfer where code = 'usage_charge')")
        transfer_id = await value(sound, f"select {changed}")
        found = await verify(sound, key=SEAL_KEY, head=None)
        assert found.findings[0].check is Check.CHAIN
        assert f"transfer {transfer_id} (sealed at position" in found.findings[0].text
        assert "was changed" in found.findings[0].text

    async def test_only_the_edited_row_is_named_by_the_chain(self, sound):
        await tamper(sound, EDITS["key"])
        found = await verify(sound, key=SEAL_KEY, head=None)
        assert len(found.findings) == 1

    async def test_an_edited_amount_is_seen_by_the_balances_too(self, sound):
        await tamper(sound, EDITS["amount"])
        checks = {found.check for found in (await verify(sound, key=None, head=None)).findings}
        assert checks == {Check.BALANCES, Check.SNAPSHOTS}

    async def test_a_deleted_transfer_is_named(self, sound):
        transfer_id = await value(sound, f"select {CHARGE}")
        await tamper(sound, f"delete from transfer where id = {transfer_id}")
        found = await verify(sound, key=SEAL_KEY, head=None)
        assert f"transfer {transfer_id} (sealed at position" in found.findings[0].text
        assert found.findings[0].text.endswith("is gone")

    async def test_a_transfer_deleted_with_its_seal_leaves_a_named_gap(self, sound):
        transfer_id = await value(sound, f"select {CHARGE}")
        position = await value(sound, f"select position from transfer_seal where transfer_id = {transfer_id}")
        await tamper(
            sound,
            f"delete from transfer where id = {transfer_id}",
            f"delete from transfer_seal where transfer_id = {transfer_id}",
        )
        found = await verify(sound, key=SEAL_KEY, head=None)
        assert found.findings[0].text == f"seals {position} to {position} are gone"

    async def test_a_gap_closed_by_renumbering_is_named_where_it_was(self, sound):
        transfer_id = await value(sound, f"select {CHARGE}")
        position = await value(sound, f"select position from transfer_seal where transfer_id = {transfer_id}")
        await tamper(
            sound,
            f"delete from transfer where id = {transfer_id}",
            f"delete from transfer_seal where transfer_id = {transfer_id}",
            f"update transfer_seal set position = position + 1000000 where position > {position}",
            "update transfer_seal set position = position - 1000001 where position > 1000000",
        )
        found = await verify(sound, key=SEAL_KEY, head=None)
        assert f"(sealed at position {position})" in found.findings[0].text

    async def test_a_cut_end_is_named_by_the_head_outside(self, sound):
        head = await head_of(sound)
        cut = "select transfer_id from transfer_seal order by position desc limit 3"
        await tamper(
            sound,
            f"delete from transfer where id in ({cut})",
            f"delete from transfer_seal where position > {head.position - 3}",
        )
        found = await verify(sound, key=SEAL_KEY, head=head)
        assert found.findings[0].text.startswith(f"seals {head.position - 2} to {head.position} are gone")
        without_head = await verify(sound, key=SEAL_KEY, head=None)
        assert not any(finding.check is Check.CHAIN for finding in without_head.findings)

    async def test_an_edited_seal_is_told_from_an_edited_transfer(self, sound):
        await tamper(sound, "update transfer_seal set hash = sha256(hash) where position = 7")
        found = await verify(sound, key=SEAL_KEY, head=None)
        [only] = found.findings
        assert only.text.startswith("the seal at position 7 (transfer ")

    async def test_an_edited_last_seal_is_named(self, sound):
        head = await head_of(sound)
        await tamper(sound, f"update transfer_seal set hash = sha256(hash) where position = {head.position}")
        found = await verify(sound, key=SEAL_KEY, head=head)
        assert f"(sealed at position {head.position})" in found.findings[0].text

    async def test_a_transfer_written_behind_the_chain_is_named(self, sound):
        """With an old transaction's number it would never be sealed."""
        await tamper(
            sound,
            "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, xact_id)"
            " select 'late', debit_account_id, credit_account_id, 1, code, state, 3 from transfer where code = 'credit_grant'"
            " limit 1",
        )
        found = await verify(sound, key=SEAL_KEY, head=None)
        transfer_id = await value(sound, "select id from transfer where key = 'late'")
        assert found.findings[0].text.startswith(f"transfer {transfer_id} was written behind the chain")


HIDDEN = {
    "balance": (
        f"update ledger_account set credits_posted = credits_posted + 1 where id = {BALANCE}",
        Check.BALANCES,
        f"account {{{BALANCE}}} (customer_balance): credits_posted is 10001 and its transfers make 10000",
    ),
    "open_hold_hidden": (
        "delete from open_hold where transfer_id = (select min(transfer_id) from open_hold)",
        Check.HOLDS,
        (
            "hold {(select min(id) from transfer p where state = 'pending' and not exists"
            " (select from transfer r where r.pending_id = p.id))} is open and open_hold lacks it"
        ),
    ),
    "open_hold_invented": (
        f"insert into open_hold values ({CHARGE}, now())",
        Check.HOLDS,
        f"open_hold names transfer {{{CHARGE}}}, which is no open hold",
    ),
    "open_hold_prolonged": (
        "update open_hold set expires_at = 'infinity'",
        Check.HOLDS,
        "hold {(select min(transfer_id) from open_hold)} expires at another time",
    ),
    "snapshot": (
        (
            "update account_snapshot set credits_posted = credits_posted + 1 where ctid ="
            f" (select ctid from account_snapshot where account_id = {BALANCE} limit 1)"
        ),
        Check.SNAPSHOTS,
        f"account {{{BALANCE}}} (customer_balance): credits_posted is 10001",
    ),
    "snapshot_row_gone": (
        f"delete from account_snapshot where account_id = {BALANCE}",
        Check.SNAPSHOTS,
        f"account {{{BALANCE}}} (customer_balance): debits_posted is 0",
    ),
    "snapshot_header_gone": (
        "delete from ledger_snapshot where day = (select min(day) from ledger_snapshot)",
        Check.SNAPSHOTS,
        "the snapshot of {(select min(day) from account_snapshot)} has rows",
    ),
    "money_kept_in_clearing": (
        (
            "update ledger_account set debits_posted = debits_posted - 1 where id ="
            " (select min(id) from ledger_account where kind = 'usage_clearing')"
        ),
        Check.BALANCES,
        "account {(select min(id) from ledger_account where kind = 'usage_clearing')} (usage_clearing)",
    ),
}


class TestLeases:
    """A lease's money is one open hold under its own key; an open hold under a lease's key is that lease's."""

    @pytest.fixture
    async def leased(self, sound_books):
        """(lease, its hold, the key), in the order of the leases' ids: of 400, and of 300 after 100 were posted."""
        await sound_books.fund(1_000)
        desk, leases = LeaseDesk(sound_books), sorted(new_id() for _ in range(2))
        for lease_id in leases:
            await desk.take(lease_id, 400)
        await desk.capture({new_id(): 100}, leases[1])
        return await sound_books.fetch(
            "select l.id, t.id, t.key from credit_lease l join transfer t on t.id = l.transfer_id"
            " where l.gateway_id = %s order by l.id",
            desk.gateway_id,
        )

    async def found(self, sound):
        findings = (await verify(sound, key=None, head=None)).findings
        assert {finding.check for finding in findings} <= {Check.HOLDS}
        return [finding.text for finding in findings]

    async def test_leases_in_every_state_are_no_fault(self, sound, sound_books, leased):
        desk = LeaseDesk(sound_books)
        grown, returned, closed, used_up, single = (new_id() for _ in range(5))
        for lease_id in (grown, returned, closed, used_up):
            await desk.take(lease_id, 20)
        await desk.take(grown, 10, step=2)
        await desk.give_back(returned, 5, step=2)
        await desk.give_back(closed, step=2, closes=True)
        await desk.capture({new_id(): 20}, used_up)
        await desk.take(single, 10, single_use=True)
        await desk.capture({single: 5}, single)
        assert await self.found(sound) == []

    async def test_a_lease_that_claims_more_than_its_hold_is_named(self, sound, leased):
        _, (lease_id, hold, _) = leased
        await tamper(sound, f"update credit_lease set held = 301 where id = '{lease_id}'")
        assert await self.found(sound) == [
            f"lease {lease_id} says it holds 301, and its hold {hold} is of 300"
        ]

    async def test_a_lease_whose_hold_is_resolved_is_named(self, sound, leased):
        (lease_id, _, key), _ = leased
        await sound.execute("alter table transfer disable trigger apply_3_lease_holds")
        await sound.execute("select ledger_post_hold(%s, 400, 'usage_charge')", (key,))
        findings = (await verify(sound, key=None, head=None)).findings
        assert findings[0].check is Check.HOLDS
        assert findings[0].text == f"lease {lease_id} says it holds 400, and no open hold is its own"

    @pytest.mark.parametrize(
        "statement",
        [
            "delete from credit_lease where id = '{}'",
            "update credit_lease set held = 0, transfer_id = null where id = '{}'",
        ],
    )
    async def test_a_hold_without_its_lease_is_named(self, sound, leased, statement):
        (lease_id, hold, key), _ = leased
        await tamper(sound, statement.format(lease_id))
        assert await self.found(sound) == [
            f"hold {hold} ({key}) is open and no lease counts on it: nothing would give it back"
        ]

    async def test_a_lease_that_counts_on_a_hold_of_before_is_named(self, sound, leased):
        (lease_id, hold, key), _ = leased
        await tamper(sound, f"update credit_lease set generation = generation + 1 where id = '{lease_id}'")
        assert await self.found(sound) == [
            f"lease {lease_id} counts on hold {hold}, whose key {key!r} is not of its generation"
        ]

    async def test_leases_that_count_on_each_others_holds_are_named_in_their_order(self, sound, leased):
        (first, first_hold, _), (second, second_hold, _) = leased
        await tamper(
            sound,
            f"update credit_lease set transfer_id = null, held = 0 where id = '{second}'",
            f"update credit_lease set transfer_id = {second_hold}, held = 300 where id = '{first}'",
            f"update credit_lease set transfer_id = {first_hold}, held = 400 where id = '{second}'",
        )
        found = await self.found(sound)
        assert [text.split(", whose")[0] for text in found] == [
            f"lease {first} counts on hold {second_hold}",
            f"lease {second} counts on hold {first_hold}",
        ]

    async def test_a_hold_of_a_request_is_no_leases(self, sound, leased):
        """Nor does a lease that lays claim to it go unnamed."""
        (lease_id, own, key), _ = leased
        request_hold = await value(
            sound, "select min(o.transfer_id) from open_hold o join transfer t on t.id = o.transfer_id"
            " where t.key like 'hold:%'"
        )  # fmt: skip
        await tamper(
            sound, f"update credit_lease set transfer_id = {request_hold}, held = 100 where id = '{lease_id}'"
        )
        assert await self.found(sound) == [
            f"lease {lease_id} says it holds 100, and no open hold is its own",
            f"hold {own} ({key}) is open and no lease counts on it: nothing would give it back",
        ]


class TestOtherRows:
    @pytest.mark.parametrize("name", HIDDEN)
    async def test_an_edit_beside_the_transfers_is_named(self, sound, name):
        statement, check, text = HIDDEN[name]
        before, rest = text.split("{", 1)
        subject, after = rest.split("}", 1)
        await tamper(sound, statement)
        named = f"{before}{await value(sound, f'select {subject}')}{after}"
        findings = (await verify(sound, key=SEAL_KEY, head=None)).findings
        assert findings[0].check is check
        assert named in findings[0].text

    async def test_a_hold_resolved_twice_is_named(self, sound):
        hold = await value(sound, f"select pending_id from transfer where id = {CHARGE}")
        await tamper(
            sound,
            "drop index uq_transfer_pending_id",
            "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, pending_id)"
            f" select key || '!', debit_account_id, credit_account_id, amount, code, state, {hold} from transfer"
            f" where id = {CHARGE}",
        )
        findings = (await verify(sound, key=SEAL_KEY, head=None)).findings
        assert any(found.text.startswith(f"transfer {hold} is resolved 2 times") for found in findings)

    async def test_a_code_that_does_not_fit_its_accounts_is_named(self, sound):
        await tamper(sound, f"update transfer set code = 'refund' where id = {CHARGE}")
        findings = (await verify(sound, key=None, head=None)).findings
        assert findings[0].check is Check.CODES
        assert "'refund'" in findings[0].text
