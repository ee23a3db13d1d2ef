"""What the database refuses, whoever asks: each guard is met with a statement that the code never writes."""

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege, RaiseException

from support.usdc_market import UsdcCustomer, UsdcMarket

REFUSED = (CheckViolation, InsufficientPrivilege, RaiseException)


@pytest.fixture
async def credited(usdc: UsdcMarket, customer: UsdcCustomer) -> str:
    """The signature of a credited deposit."""
    signature = await usdc.pay(usdc.payer(), await usdc.top_up(customer, "1"))
    await usdc.settle()
    return signature


@pytest.fixture
async def suspended(usdc: UsdcMarket) -> str:
    """The signature of a deposit that is nobody's."""
    signature = await usdc.pay(usdc.payer(), micro_usdc=1_000_000)
    await usdc.settle()
    return signature


def refused(url: str, statement: str, **given: object) -> str:
    """The message by which the database refuses `statement`, to the owner too."""
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(REFUSED) as error:
        connection.execute(statement, given)
    return str(error.value)


class TestRewriting:
    async def test_what_is_final_stays(self, credited: str, owner_url: str):
        for change in (
            "amount_micro_usdc = 2",
            "mint = account",
            "slot = 1",
            "final_at = now()",
            "credited_at = now()",
            "sources = '[]'",
            "organization_id = null, attributed_by = null",
        ):
            statement = f"update usdc_deposit set {change} where signature = %(signature)s"
            message = refused(owner_url, statement, signature=credited)
            assert "UPDATE on usdc_deposit is refused" in message, change

    async def test_a_credited_deposit_goes_nowhere_but_back(self, credited: str, owner_url: str):
        statement = "update usdc_deposit set state = %(state)s where signature = %(signature)s"
        for state in ("seen", "final", "dropped", "funding", "refunded"):
            message = refused(owner_url, statement, signature=credited, state=state)
            assert "does not go" in message, state

    async def test_nothing_is_removed_or_rewritten(self, credited: str, owner_url: str):
        for statement in (
            "delete from usdc_deposit where signature = %(signature)s",
            "delete from treasury_movement where signature = %(signature)s",
            "update treasury_movement set delta_micro_usdc = 5 where signature = %(signature)s",
            "update usdc_top_up set amount_micro_usdc = 5 where %(signature)s <> ''",
        ):
            assert "is refused" in refused(owner_url, statement, signature=credited), statement


class TestBooks:
    async def test_credit_without_a_transfer_does_not_commit(
        self, suspended: str, customer: UsdcCustomer, owner_url: str
    ):
        message = refused(
            owner_url,
            "update usdc_deposit set state = 'credited', credited_at = now(), organization_id = %(customer)s,"
            " attributed_by = 'person' where signature = %(signature)s",
            signature=suspended,
            customer=customer.organization_id,
        )
        assert "the ledger says otherwise" in message

    async def test_funding_without_a_transfer_does_not_commit(self, suspended: str, owner_url: str):
        statement = "update usdc_deposit set state = 'funding' where signature = %(signature)s"
        assert "the ledger says otherwise" in refused(owner_url, statement, signature=suspended)

    async def test_a_final_deposit_that_was_never_booked_does_not_commit(
        self, usdc: UsdcMarket, owner_url: str
    ):
        message = refused(
            owner_url,
            "insert into usdc_deposit (id, signature, account, mint, amount_micro_usdc, state, slot, sources, final_at)"
            " values (gen_random_uuid(), %(signature)s, %(account)s, 'm', 5, 'final', 1, '[]', now())",
            signature="5" * 88,
            account=usdc.account,
        )
        assert "the ledger says otherwise" in message
