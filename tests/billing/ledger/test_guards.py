"""The database refuses what would break the books, whoever asks, and each refusal is one guard's doing.

Every attack is tried twice: as it is, which must be refused, and in a transaction that removed that one guard, where it
must succeed. The second shows that the first tests that guard and nothing else. The tests connect as the superuser of
the server: these guards are for everybody. (Only `session_replication_role`, the switch for all triggers, is beyond
them: `raymart ledger verify` finds what was done behind their back. What the runtime's role may not even try is in
`tests/migrations/test_roles.py`.)
"""

import psycopg
import pytest

from raymart_billing.connections import make_pool
from raymart_core.ids import new_id

UNCHECKED = "alter table transfer disable trigger apply_1_check"


def transfer(debit: str, credit: str, amount: str = "1", state: str = "posted", **columns: str) -> str:
    """An INSERT by hand, past the functions, with the code that fits; `code` in `columns` for another."""
    code = columns.pop("code", "") or CODES.get((debit, credit, state), "usage_charge")
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    return (
        f"insert into transfer (key, debit_account_id, credit_account_id, amount, code, state{names})"
        f" values (gen_random_uuid()::text, {debit}, {credit}, {amount}, '{code}', '{state}'{values})"
    )


def reversal(
    *,
    debit: str = "%(balance)s",
    credit: str = "%(promotion)s",
    amount: str = "100",
    of: str = "%(gift)s",
    reason: str = "'by hand'",
) -> str:
    """A reversal by hand; of the customer's grant unless said otherwise."""
    return transfer(debit, credit, amount, code="reversal", reverses_id=of, reason=reason)


def dropped(table: str, constraint: str) -> str:
    return f"alter table {table} drop constraint {constraint}"


BALANCE, CLEARING, PAYABLE, PROMOTION, HOLD, OTHER = (
    "%(balance)s",
    "%(clearing)s",
    "%(payable)s",
    "%(promotion)s",
    "%(hold)s",
    "%(other)s",
)
"""Accounts of a customer with 1,000 nano-USD of which 400 are held by the transfer HOLD, and another customer's."""
SOON = "now() + interval '1 minute'"
CODES = {
    (BALANCE, CLEARING, "posted"): "usage_charge",
    (BALANCE, CLEARING, "pending"): "usage_hold",
    (BALANCE, CLEARING, "voided"): "hold_released",
    (CLEARING, PAYABLE, "posted"): "usage_earning",
    (PROMOTION, BALANCE, "posted"): "credit_grant",
    (BALANCE, PROMOTION, "posted"): "credit_expired",
}

ATTACKS = {
    # Nothing of the past changes.
    "update_transfer": (
        "update transfer set amount = 2 where id = %(hold)s",
        "drop trigger refuse_change on transfer",
    ),
    "delete_transfer": ("delete from transfer where id = %(hold)s", "drop trigger refuse_change on transfer"),
    "truncate_transfers": ("truncate transfer", "drop trigger refuse_change on transfer"),
    "upsert_transfer": (
        (
            "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state)"
            f" select key, {BALANCE}, {CLEARING}, 1, 'usage_charge', 'posted' from transfer where id = {HOLD}"
            " on conflict (key) do update set amount = 9"
        ),
        "drop trigger refuse_change on transfer",
    ),
    # Balances are the work of the transfers.
    "update_balance": (
        f"update ledger_account set credits_posted = 9999 where id = {BALANCE}",
        "drop trigger refuse_direct_update on ledger_account",
    ),
    "update_overdraft_right": (
        f"update ledger_account set kind = 'usage_clearing', owner_id = gen_random_uuid() where id = {BALANCE}",
        "drop trigger refuse_direct_update on ledger_account",
    ),
    "delete_account": (
        f"delete from ledger_account where id = {OTHER}",
        "drop trigger refuse_removal on ledger_account",
    ),
    "truncate_accounts": ("truncate ledger_account", "drop trigger refuse_removal on ledger_account"),
    "open_with_money": (
        (
            "insert into ledger_account (kind, owner_id, asset, may_overdraw, credits_posted)"
            " values ('customer_balance', gen_random_uuid(), 'usd', false, 5)"
        ),
        "drop trigger refuse_opening_balance on ledger_account",
    ),
    "hide_open_hold": (
        f"delete from open_hold where transfer_id = {HOLD}",
        "drop trigger refuse_direct_change on open_hold",
    ),
    "invent_open_hold": (
        "insert into open_hold values (-1, now())",
        "drop trigger refuse_direct_change on open_hold",
    ),
    "prolong_open_hold": (
        "update open_hold set expires_at = 'infinity'",
        "drop trigger refuse_direct_change on open_hold",
    ),
    "truncate_open_holds": ("truncate open_hold", "drop trigger refuse_truncate on open_hold"),
    # Nobody spends what they do not have.
    "overdraw": (
        transfer(BALANCE, CLEARING, "601"),
        dropped("ledger_account", "ck_ledger_account_no_overdraft"),
    ),
    "pay_out_of_empty_clearing": (
        transfer(CLEARING, PAYABLE),
        dropped("ledger_account", "ck_ledger_account_no_overdraft"),
    ),
    "let_customer_overdraw": (
        (
            "insert into ledger_account (kind, owner_id, asset, may_overdraw)"
            " values ('customer_balance', gen_random_uuid(), 'usd', true)"
        ),
        dropped("ledger_account", "ck_ledger_account_overdraft_by_kind"),
    ),
    "own_the_platforms_account": (
        (
            "insert into ledger_account (kind, owner_id, asset, may_overdraw)"
            " values ('platform_loss', gen_random_uuid(), 'usd', true)"
        ),
        dropped("ledger_account", "ck_ledger_account_owner_by_kind"),
    ),
    "open_twice": (
        "insert into ledger_account (kind, owner_id, asset, may_overdraw) values ('platform_fee', null, 'usd', false)",
        dropped("ledger_account", "uq_ledger_account_kind_owner_id_asset"),
    ),
    # A transfer is one amount between two accounts of one asset.
    "nothing": (transfer(PROMOTION, BALANCE, "0"), dropped("transfer", "ck_transfer_amount_positive")),
    "negative": (
        transfer(BALANCE, PROMOTION, "-5"),
        # Turned round it is a debit, so the overdraft rule could speak first: from promotion it may not.
        dropped("transfer", "ck_transfer_amount_positive")
        + "; "
        + dropped("ledger_account", "ck_ledger_account_not_negative"),
    ),
    "to_itself": (
        transfer(PROMOTION, PROMOTION),
        dropped("transfer", "ck_transfer_two_accounts") + "; " + UNCHECKED,
    ),
    "from_no_account": (transfer("-1", BALANCE), UNCHECKED),
    "to_no_account": (transfer(PROMOTION, "-1"), UNCHECKED),
    "between_assets": (transfer(PROMOTION, "%(usdc)s"), UNCHECKED),
    "hold_between_owners": (transfer(BALANCE, PAYABLE, state="pending", expires_at=SOON), UNCHECKED),
    "unknown_code": (
        transfer(PROMOTION, BALANCE, code="gift"),
        dropped("transfer", "ck_transfer_transfercode") + "; " + UNCHECKED,
    ),
    # A code moves money from one kind of account to another, in one state, and between one owner's accounts.
    "code_of_other_accounts": (transfer(PROMOTION, BALANCE, code="deposit_card"), UNCHECKED),
    "code_in_another_state": (transfer(BALANCE, CLEARING, code="usage_hold"), UNCHECKED),
    "charge_a_stranger": (transfer(BALANCE, "%(other_clearing)s"), UNCHECKED),
    "change_a_rule": (
        "update transfer_code set debit_kind = 'platform_fee' where code = 'credit_grant'",
        "drop trigger refuse_change on transfer_code",
    ),
    "add_a_rule": (
        "insert into transfer_code values ('gift', 'platform_fee', 'customer_balance', 'posted', 'usd', true)",
        "drop trigger refuse_change on transfer_code",
    ),
    # Nothing is added to the past.
    "append_late": (transfer(PROMOTION, BALANCE, xact_id="3"), UNCHECKED),
    # A reversal is the mirror of one posted transfer, once, with a reason.
    "reverse_in_part": (reversal(amount="99"), UNCHECKED),
    "reverse_elsewhere": (
        reversal(debit=CLEARING, credit=BALANCE),
        UNCHECKED + "; " + dropped("ledger_account", "ck_ledger_account_no_overdraft"),
    ),
    "reverse_a_hold": (
        reversal(debit=CLEARING, credit=BALANCE, amount="400", of=HOLD),
        UNCHECKED + "; " + dropped("ledger_account", "ck_ledger_account_no_overdraft"),
    ),
    "reverse_nothing": (
        reversal(of="null"),
        dropped("transfer", "ck_transfer_reversal_names_its_transfer"),
    ),
    "reverse_without_a_reason": (
        reversal(reason="null"),
        dropped("transfer", "ck_transfer_reversal_has_reason"),
    ),
    "reverse_twice": (
        f"{reversal()}; {reversal()}",
        "drop index uq_transfer_reverses_id",
    ),
    "reverse_a_reversal": (
        f"{reversal()}; {reversal(debit=PROMOTION, credit=BALANCE, of='(select max(id) from transfer)')}",
        UNCHECKED,
    ),
    # A hold resolves once, for at most its amount, on its own accounts.
    "capture_more_than_held": (transfer(BALANCE, CLEARING, "401", pending_id=HOLD), UNCHECKED),
    "capture_elsewhere": (
        transfer(PROMOTION, BALANCE, "400", pending_id=HOLD),
        UNCHECKED + "; " + dropped("ledger_account", "ck_ledger_account_not_negative"),
    ),
    "void_in_part": (transfer(BALANCE, CLEARING, "399", "voided", pending_id=HOLD), UNCHECKED),
    "capture_what_is_no_hold": (
        transfer(BALANCE, CLEARING, "1", pending_id="%(grant)s"),
        UNCHECKED + "; " + dropped("ledger_account", "ck_ledger_account_not_negative"),
    ),
    "void_without_hold": (
        transfer(BALANCE, CLEARING, state="voided"),
        dropped("transfer", "ck_transfer_void_has_hold"),
    ),
    "hold_forever": (
        transfer(BALANCE, CLEARING, state="pending"),
        dropped("transfer", "ck_transfer_pending_expires")
        + "; alter table open_hold alter expires_at drop not null",
    ),
    "hold_on_hold": (
        transfer(BALANCE, CLEARING, "400", "pending", expires_at=SOON, pending_id=HOLD),
        dropped("transfer", "ck_transfer_pending_is_first"),
    ),
}


@pytest.fixture
async def pool(owner_url):
    """Connections as the superuser."""
    async with make_pool(owner_url, size_max=5, name="test") as pool:
        yield pool


async def granted(books, amount):
    """Id of the grant of `amount`."""
    account_id = await books.account_id("customer_balance")
    return await books.value(
        "select id from transfer where credit_account_id = %s and amount = %s", account_id, amount
    )


@pytest.fixture
async def ids(books):
    await books.fund(900)
    await books.fund(100)
    other = new_id()
    return {
        "balance": await books.account_id("customer_balance"),
        "clearing": await books.account_id("usage_clearing"),
        "payable": await books.account_id("provider_payable"),
        "promotion": await books.account_id("promotional_credit"),
        "other": await books.account_id("customer_balance", other),
        "usdc": await books.value("select ledger_open_account('customer_balance', %s, 'usdc')", other),
        "other_clearing": await books.account_id("usage_clearing", other),
        "hold": await books.hold(new_id(), 400),
        "grant": await granted(books, 900),
        "gift": await granted(books, 100),
    }


@pytest.mark.parametrize("name", ATTACKS)
class TestGuards:
    async def test_the_attack_is_refused(self, pool, ids, name):
        attack, _ = ATTACKS[name]
        async with pool.connection() as connection:
            with pytest.raises(psycopg.DatabaseError) as refusal:
                await connection.execute(attack % ids)
        assert not isinstance(
            refusal.value, psycopg.OperationalError | psycopg.ProgrammingError
        ) or isinstance(refusal.value, psycopg.errors.InsufficientPrivilege)

    async def test_without_its_guard_the_attack_succeeds(self, pool, ids, name):
        attack, removal = ATTACKS[name]
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            await connection.execute(removal)
            await connection.execute(attack % ids)


class TestArithmetic:
    @pytest.mark.parametrize("amount", ["9223372036854775808", "1e30", "'NaN'::float8", "'Infinity'::float8"])
    async def test_an_amount_no_bigint_holds_is_refused(self, pool, ids, amount):
        async with pool.connection() as connection:
            with pytest.raises(psycopg.DataError):
                await connection.execute(transfer(PROMOTION, BALANCE, amount) % ids)

    async def test_a_balance_never_wraps_around(self, pool, ids):
        async with pool.connection() as connection:
            with pytest.raises(psycopg.errors.NumericValueOutOfRange):
                await connection.execute(transfer(PROMOTION, BALANCE, str(2**63 - 1)) % ids)

    async def test_one_statement_is_judged_by_its_net_effect(self, pool, ids):
        """In and out of an account within a statement: what counts is where it ends."""
        key = "gen_random_uuid()::text"
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            await connection.execute(
                "insert into transfer (key, debit_account_id, credit_account_id, amount, code, state) values"
                f" ({key}, {ids['clearing']}, {ids['payable']}, 600, 'usage_earning', 'posted'),"
                f" ({key}, {ids['balance']}, {ids['clearing']}, 600, 'usage_charge', 'posted')"
            )

    async def test_copy_moves_balances_like_any_other_insert(self, pool, ids, books):
        columns = "key, debit_account_id, credit_account_id, amount, code, state"
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            async with (
                connection.cursor() as cursor,
                cursor.copy(f"copy transfer ({columns}) from stdin") as copy,
            ):
                for _ in range(3):
                    await copy.write_row(
                        (str(new_id()), ids["promotion"], ids["balance"], 5, "credit_grant", "posted")
                    )
            cursor = await connection.execute(
                "select credits_posted from ledger_account where id = %s", (ids["balance"],)
            )
            assert await cursor.fetchone() == (1_015,)
