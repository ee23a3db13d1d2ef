"""What the database itself refuses about payout wallets, whatever the application says. Each guard is tried around.

As the runtime's role and as a tenant; the last class switches the guard off, as only the owner can, and sees the money open.
"""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from solders.keypair import Keypair

from raymart_billing.payout_wallets import PayoutWallet
from raymart_core.clock import now
from raymart_core.ids import new_id
from raymart_marketplace.accounts.wallet_proofs import WalletProof, withdraw_proof
from raymart_marketplace.db.session import Sessions, session_scope
from support.payout_wallets import Payee, choose, make_paid_payee, make_payee, pass_time, prove

INSERT = """
insert into payout_wallet (id, organization_id, provider_id, address, proof_id, proven_at, chosen_by, is_first, payable_from,
                           warnings, check_state, checked_at)
values (%(id)s, %(organization)s, %(provider)s, %(address)s, %(proof)s, now(), %(user)s, true, now(), '{}', 'passed', now())
"""
CHANGES = (
    "payable_from = now() - interval '1 day'",
    "address = '11111111111111111111111111111111'",
    "provider_id = gen_random_uuid()",
    "created_at = created_at - interval '72 hours', payable_from = payable_from - interval '72 hours'",
    "is_first = not is_first",
    "chosen_by = chosen_by, proven_at = now()",
    "warnings = '{shared}'",
    "proof_id = gen_random_uuid()",
)
"""What nobody may do to a choice, its owner's programs included."""
TENANT = "select set_config('role', 'raymart_tenant', true), set_config('app.organizations', %s, true)"


@pytest.fixture
async def paid(sessions: Sessions) -> Payee:
    return await make_paid_payee(sessions)


@pytest.fixture
def runtime(database_url: str) -> Iterator[psycopg.Connection]:
    """As the processes connect; rolled back."""
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        yield connection
        connection.rollback()


async def proven(sessions: Sessions, payee: Payee) -> WalletProof:
    """A fresh proof of another wallet."""
    async with session_scope(sessions) as session:
        return await prove(session, payee, Keypair())


def values(payee: Payee, fresh: WalletProof, **changes: object) -> dict[str, object]:
    return {
        "id": new_id(),
        "organization": payee.organization_id,
        "provider": payee.provider_id,
        "address": fresh.address,
        "proof": fresh.id,
        "user": payee.owner_id,
    } | changes


def end_current(connection: psycopg.Connection, payee: Payee) -> None:
    connection.execute(
        "update payout_wallet set ended_at = now(), end_reason = 'replaced' where provider_id = %s and ended_at is null",
        (payee.provider_id,),
    )


class TestInsert:
    async def test_no_row_says_by_itself_that_it_is_payable_at_once(
        self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection
    ):
        """The row claims to be the first, payable now and checked."""
        given = values(paid, await proven(sessions, paid))
        end_current(runtime, paid)
        runtime.execute(INSERT, given)
        [row] = runtime.execute("select * from payout_wallet where id = %s", (given["id"],)).fetchall()
        assert not row["is_first"]
        assert row["payable_from"] - row["created_at"] == timedelta(hours=72)
        assert row["check_state"] == "unchecked"

    async def test_two_current_ones_are_refused(
        self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection
    ):
        with pytest.raises(psycopg.errors.UniqueViolation, match="uq_payout_wallet_current"):
            runtime.execute(INSERT, values(paid, await proven(sessions, paid)))

    async def test_proof_must_be_live_own_and_of_the_address(
        self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection
    ):
        proof = await proven(sessions, paid)
        async with session_scope(sessions) as session:
            rival = await make_payee(session)
            others = await prove(session, rival, Keypair())
            gone = await prove(session, paid, Keypair())
            await withdraw_proof(session, organization_id=paid.organization_id, address=gone.address)
        for wrong in (
            {"proof": others.id},
            {"proof": others.id, "address": others.address},
            {"proof": gone.id, "address": gone.address},
            {"address": str(Keypair().pubkey())},
            {"provider": rival.provider_id},
        ):
            given = values(paid, proof, **wrong)
            with runtime.transaction(force_rollback=True):
                end_current(runtime, paid)
                with pytest.raises(psycopg.errors.CheckViolation) as refused, runtime.transaction():
                    runtime.execute(INSERT, given)
            assert refused.value.diag.constraint_name == "ck_payout_wallet_is_proven", wrong

    async def test_proof_older_than_an_hour_is_refused(
        self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection, owner_url: str
    ):
        proof = await proven(sessions, paid)
        pass_time(owner_url, paid, hours=1.1)
        end_current(runtime, paid)
        with pytest.raises(psycopg.errors.CheckViolation, match="older than an hour"):
            runtime.execute(INSERT, values(paid, proof))

    async def test_tenant_adds_none_for_another(
        self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection
    ):
        proof = await proven(sessions, paid)
        runtime.execute(TENANT, (f"{{{new_id()}}}",))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            runtime.execute(INSERT, values(paid, proof))


class TestUpdate:
    async def test_choice_stays_as_it_was_made(self, paid: Payee, runtime: psycopg.Connection):
        for change in CHANGES:
            statement = f"update payout_wallet set {change} where provider_id = %s"
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused, runtime.transaction():
                runtime.execute(statement, (paid.provider_id,))
            assert refused.value.diag.constraint_name == "ck_payout_wallet_immutable", change

    async def test_tenant_does_not_pass_its_own_check(self, paid: Payee, runtime: psycopg.Connection):
        fail = "update payout_wallet set check_state = 'failed', check_finding = 'x' where provider_id = %s"
        runtime.execute(fail, (paid.provider_id,))
        runtime.execute(TENANT, (f"{{{paid.organization_id}}}",))
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            runtime.execute(
                "update payout_wallet set check_state = 'passed', check_finding = null where provider_id = %s",
                (paid.provider_id,),
            )
        assert refused.value.diag.constraint_name == "ck_payout_wallet_checked_by_us"

    async def test_check_is_not_forgotten(self, paid: Payee, runtime: psycopg.Connection):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            runtime.execute(
                "update payout_wallet set check_state = 'unchecked', checked_at = null where provider_id = %s",
                (paid.provider_id,),
            )

    async def test_choice_that_is_over_returns_only_by_a_cancellation(
        self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection
    ):
        """The way around the cool-down: end the new wallet and un-end an old one."""
        async with session_scope(sessions) as session:
            await choose(session, paid, Keypair())
        unend = "update payout_wallet set ended_at = null, end_reason = null, ended_by = null where provider_id = %s and is_first"
        for reason in ("replaced", "proof_withdrawn"):
            with runtime.transaction(force_rollback=True):
                runtime.execute(
                    "update payout_wallet set ended_at = now(), end_reason = %s where provider_id = %s and ended_at is null",
                    (reason, paid.provider_id),
                )
                with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused, runtime.transaction():
                    runtime.execute(unend, (paid.provider_id,))
            assert refused.value.diag.constraint_name == "ck_payout_wallet_returns"

    async def test_cancellation_is_over_with_the_cool_down(
        self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection, owner_url: str
    ):
        async with session_scope(sessions) as session:
            await choose(session, paid, Keypair())
        pass_time(owner_url, paid, hours=73)
        with pytest.raises(psycopg.errors.CheckViolation, match="cancelled_while_cooling"):
            runtime.execute(
                "update payout_wallet set ended_at = now() - interval '2 days', end_reason = 'cancelled'"
                " where provider_id = %s and ended_at is null",
                (paid.provider_id,),
            )

    async def test_how_it_ended_stays(self, sessions: Sessions, paid: Payee, runtime: psycopg.Connection):
        async with session_scope(sessions) as session:
            await choose(session, paid, Keypair())
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            runtime.execute(
                "update payout_wallet set end_reason = 'cancelled' where provider_id = %s and is_first",
                (paid.provider_id,),
            )
        assert refused.value.diag.constraint_name == "ck_payout_wallet_immutable"


class TestRemoval:
    async def test_nothing_is_deleted_or_truncated(self, paid: Payee, runtime: psycopg.Connection):
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused, runtime.transaction():
            runtime.execute("delete from payout_wallet where provider_id = %s", (paid.provider_id,))
        assert refused.value.diag.constraint_name == "ck_payout_wallet_immutable"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            runtime.execute("truncate payout_wallet")

    async def test_owner_truncates_nothing_either(self, paid: Payee, owner_url: str):
        with (
            psycopg.connect(owner_url) as owner,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="TRUNCATE on payout_wallet"),
        ):
            owner.execute("truncate payout_wallet")


class TestWithdrawal:
    async def test_any_end_of_the_proof_ends_the_choice(self, paid: Payee, runtime: psycopg.Connection):
        """Also one that goes around the service, as a tenant."""
        runtime.execute(TENANT, (f"{{{paid.organization_id}}}",))
        runtime.execute(
            "update wallet_proof set withdrawn_at = now() where organization_id = %s", (paid.organization_id,)
        )
        [row] = runtime.execute(
            "select end_reason, ended_at from payout_wallet where provider_id = %s", (paid.provider_id,)
        ).fetchall()
        assert row["end_reason"] == "proof_withdrawn"

    async def test_withdrawal_and_choice_at_once_leave_no_choice(
        self, sessions: Sessions, database_url: str, paid: Payee
    ):
        """Whichever is first: a choice that commits while its proof is being withdrawn is ended with it."""
        proof = await proven(sessions, paid)
        with psycopg.connect(database_url) as choosing, psycopg.connect(database_url) as withdrawing:
            end_current(choosing, paid)
            choosing.execute(INSERT, values(paid, proof))
            withdrawing.execute("set lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                withdrawing.execute("update wallet_proof set withdrawn_at = now() where id = %s", (proof.id,))
            withdrawing.rollback()
            choosing.commit()
            withdrawing.execute("update wallet_proof set withdrawn_at = now() where id = %s", (proof.id,))
            withdrawing.commit()
            left = withdrawing.execute(
                "select count(*) from payout_wallet where provider_id = %s and ended_at is null",
                (paid.provider_id,),
            ).fetchone()
        assert left == (0,)


class TestGuardsMatter:
    """Without its trigger the database lets a stolen session's row be paid at once: the tests above can fail."""

    @pytest.fixture
    def bare(self, owner_url: str) -> Iterator[psycopg.Connection]:
        """As the owner, with the triggers off in a transaction that is rolled back."""
        with psycopg.connect(owner_url, row_factory=dict_row) as owner:
            owner.execute("set local session_replication_role = replica")
            yield owner
            owner.rollback()

    async def test_without_triggers_a_change_is_payable_at_once(
        self, sessions: Sessions, paid: Payee, bare: psycopg.Connection
    ):
        given = values(paid, await proven(sessions, paid))
        end_current(bare, paid)
        with (
            pytest.raises(psycopg.errors.UniqueViolation, match="uq_payout_wallet_first"),
            bare.transaction(),
        ):
            bare.execute(INSERT, given)  # Who claims to be first meets the index even so.
        with pytest.raises(psycopg.errors.CheckViolation, match="cools_down"), bare.transaction():
            bare.execute(INSERT.replace("true, now()", "false, now()"), given)
        bare.execute("alter table payout_wallet drop constraint ck_payout_wallet_cools_down")
        bare.execute(INSERT.replace("true, now()", "false, now()"), given)
        assert row_is_payable(bare, given["id"])

    def test_model_and_table_know_the_same_columns(self) -> None:
        assert {"is_first", "payable_from", "earlier_id"} <= set(PayoutWallet.__table__.columns.keys())


def row_is_payable(connection: psycopg.Connection, wallet_id: object) -> bool:
    assert isinstance(wallet_id, UUID)
    [row] = connection.execute("select * from payout_wallet where id = %s", (wallet_id,)).fetchall()
    return row["payable_from"] <= now() and row["check_state"] == "passed" and row["ended_at"] is None
