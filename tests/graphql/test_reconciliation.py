"""Reconciliation over GraphQL: what administrators ask for, see and resolve."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from raymart_billing.connections import make_pool
from raymart_core.ids import new_id
from raymart_marketplace.accounts.models import OrganizationKind, Role
from support.api_server import Api, Person
from support.payout_batches import PayoutBatches

RUNS = "{ reconciliationRuns(first: 5) { nodes { number trigger since finishedAt differences } } }"
DIFFERENCES = """query ($open: Boolean!) { reconciliationDifferences(first: 50, open: $open) {
  nodes { number kind table row expected found resolvedAt reason } } }"""
REQUEST = """mutation ($input: RequestReconciliationInput!) { requestReconciliation(input: $input) {
  run { number trigger finishedAt } userErrors { code } } }"""
RESOLVE = """mutation ($input: ResolveReconciliationDifferenceInput!) {
  resolveReconciliationDifference(input: $input) {
    difference { reason resolvedAt } stillOpen userErrors { code field message } } }"""
WITHDRAWN = """mutation ($input: RecordTreasuryWithdrawalInput!) {
  recordTreasuryWithdrawal(input: $input) { withdrawal { microUsdc } userErrors { code message } } }"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rows(database_url: str) -> AsyncIterator[PayoutBatches]:
    async with make_pool(database_url, size_max=2, name="test") as pool:
        yield PayoutBatches(pool)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def finance(api: Api) -> Person:
    return (await api.tenant(OrganizationKind.PLATFORM)).people[Role.FINANCE]


async def difference(rows: PayoutBatches) -> tuple[str, str]:
    """Number and row of a difference as a run leaves it."""
    subject = str(new_id())
    number = await rows.value(
        "with run as (insert into reconciliation_run (id, trigger) values (gen_random_uuid(), 'operator') returning id)"
        " insert into reconciliation_difference (id, run_id, last_run_id, kind, subject_table, subject, expected, found)"
        " select gen_random_uuid(), id, id, 'amount', 'payout_item', %s, '5', '6' from run returning number",
        subject,
    )
    return str(number), subject


async def found(api: Api, person: Person, subject: str, *, open_: bool) -> list[dict[str, Any]]:
    listed = (await api(DIFFERENCES, person, open=open_)).data["reconciliationDifferences"]["nodes"]
    return [one for one in listed if one["row"] == subject]


class TestRuns:
    async def test_a_run_is_asked_for_and_waits_for_a_worker(
        self, api: Api, rows: PayoutBatches, finance: Person
    ) -> None:
        asked = (await api(REQUEST, finance, input={})).data["requestReconciliation"]
        assert asked["userErrors"] == []
        assert asked["run"]["trigger"] == "ADMIN"
        listed = (await api(RUNS, finance)).data["reconciliationRuns"]["nodes"]
        assert asked["run"]["number"] in {run["number"] for run in listed}
        [[task, requested_by]] = await rows.fetch(
            "select o.task, r.requested_by from outbox o join reconciliation_run r on r.id::text = o.subject"
            " where r.number = %s",
            int(asked["run"]["number"]),
        )
        assert (task, requested_by) == ("payouts.reconcile", finance.user_id)

    async def test_without_a_chain_nothing_can_be_looked_up(self, api: Api, finance: Person) -> None:
        answer = await api(WITHDRAWN, finance, input={"signature": "s" * 88, "reason": "r"})
        [error] = answer.data["recordTreasuryWithdrawal"]["userErrors"]
        assert (error["code"], "SOLANA_RPC_URL" in error["message"]) == ("UNAVAILABLE", True)


class TestDifferences:
    async def test_one_is_open_until_somebody_gives_it_a_reason(
        self, api: Api, rows: PayoutBatches, finance: Person
    ) -> None:
        number, subject = await difference(rows)
        [shown] = await found(api, finance, subject, open_=True)
        assert (shown["kind"], shown["table"], shown["expected"], shown["found"]) == (
            "AMOUNT", "payout_item", "5", "6"
        )  # fmt: skip
        resolved = await api(RESOLVE, finance, input={"number": number, "reason": "a drill"})
        done = resolved.data["resolveReconciliationDifference"]
        assert (done["userErrors"], done["difference"]["reason"]) == ([], "a drill")
        assert await found(api, finance, subject, open_=True) == []
        [kept] = await found(api, finance, subject, open_=False)
        assert kept["resolvedAt"] is not None
        assert await rows.value(
            "select resolved_by from reconciliation_difference where number = %s", int(number)
        ) == (finance.user_id)

    async def test_a_second_reason_no_reason_and_no_difference_are_refused(
        self, api: Api, rows: PayoutBatches, finance: Person
    ) -> None:
        number, _ = await difference(rows)
        codes = []
        for input_ in (
            {"number": number, "reason": " "},
            {"number": number, "reason": "a drill"},
            {"number": number, "reason": "again"},
            {"number": "999999999", "reason": "r"},
        ):
            done = (await api(RESOLVE, finance, input=input_)).data["resolveReconciliationDifference"]
            codes.append([error["code"] for error in done["userErrors"]])
        assert codes == [["INVALID"], [], ["CONFLICT"], ["NOT_FOUND"]]

    async def test_support_may_not(self, api: Api) -> None:
        support = (await api.tenant(OrganizationKind.PLATFORM)).people[Role.SUPPORT]
        assert (await api(RUNS, support)).code == "FORBIDDEN"
        assert (await api(REQUEST, support, input={})).code == "FORBIDDEN"
