"""Payouts over GraphQL: who may do what, what is shown, and that a page costs the same whatever is on it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from raymart_billing.connections import make_pool
from raymart_billing.payouts.running import run_now
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import OrganizationKind, Role
from support.api_server import Api, Person, Tenant, api_server, control_settings
from support.payout_batches import MINT, PayoutBatches, address
from support.provider_earnings import USD, Earners
from support.statements import statements_of

QUEUE = """query ($state: PayoutBatchState) { payoutBatches(state: $state, first: 100) {
  nodes { number state total { amount currency } payees approvalsNeeded plannedBy { id } epoch { number }
          approvals { total { amount } user { id } } } } }"""
BATCH = """query ($number: BigInt!, $first: Int) { payoutBatch(number: $number) {
  number state holdReason splitFrom total { amount } payees approvedAt
  items(first: $first) { nodes { position amount { amount } state wallet walletUrl provider { id slug }
    facts { trust payoutsBefore averageBefore { amount } knownWallet presentWallet usageFlags gross { amount } refundBasisPoints }
    outliers { kind text } } pageInfo { hasNextPage } }
  parts(first: $first) { nodes { position state total { amount } explorerUrl markerUrl
    attempts { number signature state explorerUrl lastValidBlockHeight } } } } }"""
USAGE = """query ($number: BigInt!, $position: Int!, $first: Int, $after: String) {
  payoutItemUsage(batch: $number, position: $position, first: $first, after: $after) {
    nodes { amount { amount } bookedAt usage { id } } pageInfo { hasNextPage endCursor } } }"""
UNPAID = """query ($epoch: BigInt) { unpaidEarnings(epoch: $epoch, first: 100) {
  nodes { reason earned { amount } heldBack { amount } provider { id } epoch { number } } } }"""
RULES = """{ payoutPolicy { version minimum { amount } batchCap { amount } dayCap { amount } fourEyesAbove { amount }
  epochHours holdbackBands { trustMin basisPoints days } reason } payoutPolicies(first: 1) { nodes { version } }
  payoutEpochs(first: 1) { nodes { number endsAt } } payoutStops { nodes { source reason } } }"""
DO = "mutation ($input: %sInput!) { done: %s(input: $input) { %s userErrors { code field message } } }"
APPROVE = DO % ("ApprovePayoutBatch", "approvePayoutBatch", "batch { state approvedAt }")
HOLD = DO % ("HoldPayoutBatch", "holdPayoutBatch", "batch { state holdReason }")
RELEASE = DO % ("ReleasePayoutBatch", "releasePayoutBatch", "batch { state }")
SPLIT = DO % (
    "SplitPayoutBatch", "splitPayoutBatch",
    "batch { number state payees splitFrom total { amount } } rest { number payees total { amount } }",
)  # fmt: skip
CANCEL = DO % ("CancelPayoutBatch", "cancelPayoutBatch", "batch { state holdReason }")
PAUSE = DO % ("PausePayouts", "pausePayouts", "stop { source reason pausedAt pausedBy { id } }")
RESUME = DO % ("ResumePayouts", "resumePayouts", "stop { resumedAt resumedReason }")
POLICY = DO % ("SetPayoutPolicy", "setPayoutPolicy", "policy { version epochHours setBy { id } }")
TRUST = DO % ("SetProviderTrust", "setProviderTrust", "score provider { id }")
PLAN = DO % ("RequestPayoutPlan", "requestPayoutPlan", "item { task subject state }")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def batches(database_url: str) -> AsyncIterator[PayoutBatches]:
    async with make_pool(database_url, size_max=3, name="test") as pool:
        yield PayoutBatches(pool)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(api: Api) -> Tenant:
    return await api.tenant(OrganizationKind.PLATFORM)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def finance(platform: Tenant) -> Person:
    return platform.people[Role.FINANCE]


async def do(api: Api, mutation: str, person: Person, **input_: Any) -> dict[str, Any]:
    done: dict[str, Any] = (await api(mutation, person, input=input_)).data["done"]
    return done


async def number_of(batches: PayoutBatches, batch_id: object) -> str:
    return str(await batches.value("select number from payout_batch where id = %s", batch_id))


class TestApproval:
    async def test_a_batch_is_found_in_the_queue_and_approved(
        self, api: Api, batches: PayoutBatches, finance: Person
    ) -> None:
        made = await batches.batch(1_500_000, 2_000_000)
        number = await number_of(batches, made.id)
        queue = (await api(QUEUE, finance, state="PLANNED")).data["payoutBatches"]["nodes"]
        [shown] = [each for each in queue if each["number"] == number]
        assert (shown["total"], shown["payees"]) == ({"amount": "3.500000", "currency": "USDC"}, 2)
        assert (shown["approvalsNeeded"], shown["plannedBy"], shown["approvals"]) == (1, None, [])
        done = await do(api, APPROVE, finance, number=number, total="3.5")
        assert (done["batch"]["state"], done["userErrors"]) == ("APPROVED", [])
        found = (await api(BATCH, finance, number=number, first=5)).data["payoutBatch"]
        assert [part["total"]["amount"] for part in found["parts"]["nodes"]] == ["3.500000"]

    async def test_four_eyes_above_the_threshold(
        self, api: Api, batches: PayoutBatches, platform: Tenant, finance: Person
    ) -> None:
        made = await batches.batch(10_000_000_001)
        number = await number_of(batches, made.id)
        for person, state in ((finance, "REVIEWED"), (finance, "REVIEWED"), (platform.owner, "APPROVED")):
            done = await do(api, APPROVE, person, number=number, total="10000.000001")
            assert done["batch"]["state"] == state

    async def test_self_approval_and_a_total_that_was_not_seen_are_refused(
        self, api: Api, batches: PayoutBatches, finance: Person
    ) -> None:
        made = await batches.batch(1_000_000, created_by=finance.user_id)
        number = await number_of(batches, made.id)
        own = await do(api, APPROVE, finance, number=number, total="1")
        assert [error["code"] for error in own["userErrors"]] == ["CONFLICT"]
        assert "somebody else" in own["userErrors"][0]["message"]
        other = await do(api, APPROVE, finance, number=number, total="2")
        assert other["userErrors"][0]["field"] == ["input", "total"]
        assert (await do(api, APPROVE, finance, number="999999999", total="1"))["userErrors"][0][
            "code"
        ] == "NOT_FOUND"


class TestDoing:
    async def test_hold_release_and_split(self, api: Api, batches: PayoutBatches, finance: Person) -> None:
        made = await batches.batch(1_000_000, 2_000_000, 4_000_000)
        number = await number_of(batches, made.id)
        held = await do(api, HOLD, finance, number=number, reason="a doubt")
        assert held["batch"] == {"state": "HELD", "holdReason": "a doubt"}
        assert (await do(api, RELEASE, finance, number=number))["batch"] == {"state": "PLANNED"}
        split = await do(api, SPLIT, finance, number=number, positions=[0, 2], reason="new wallets")
        assert split["rest"] == {"number": number, "payees": 1, "total": {"amount": "2.000000"}}
        new = split["batch"]
        assert (new["state"], new["payees"], new["total"]["amount"], new["splitFrom"]) == (
            "HELD", 2, "5.000000", number
        )  # fmt: skip
        wrong = await do(api, SPLIT, finance, number=number, positions=[7], reason="r")
        assert wrong["userErrors"][0]["field"] == ["input", "positions"]

    async def test_cancel_holds_at_once_and_asks_a_worker(
        self, api: Api, batches: PayoutBatches, finance: Person
    ) -> None:
        made = await batches.batch(1_000_000)
        done = await do(api, CANCEL, finance, number=await number_of(batches, made.id), reason="wrong")
        assert done["batch"] == {"state": "HELD", "holdReason": "being cancelled: wrong"}
        asked = "select count(*) from outbox where task = 'payouts.cancel' and subject = %s"
        assert await batches.value(asked, str(made.id)) == 1

    async def test_the_kill_switch_stops_approval_until_it_is_lifted(
        self, api: Api, batches: PayoutBatches, finance: Person
    ) -> None:
        made = await batches.batch(1_000_000)
        number = await number_of(batches, made.id)
        stop = (await do(api, PAUSE, finance, reason="an alarm"))["stop"]
        assert (stop["source"], stop["pausedBy"]) == (
            "ADMIN", {"id": show(Prefix.USER, finance.user_id)}
        )  # fmt: skip
        try:
            refused = await do(api, APPROVE, finance, number=number, total="1")
            assert "an alarm" in refused["userErrors"][0]["message"]
            assert (await do(api, PAUSE, finance, reason="again"))["userErrors"][0]["code"] == "CONFLICT"
            standing = (await api(RULES, finance)).data["payoutStops"]["nodes"]
            assert standing == [{"source": "ADMIN", "reason": "an alarm"}]
        finally:
            resumed = await do(api, RESUME, finance, reason="all clear")
        assert resumed["stop"]["resumedReason"] == "all clear"
        assert (await do(api, APPROVE, finance, number=number, total="1"))["batch"]["state"] == "APPROVED"

    async def test_a_policy_is_the_next_version(self, api: Api, finance: Person) -> None:
        before = (await api(RULES, finance)).data["payoutPolicy"]
        done = await do(
            api,
            POLICY,
            finance,
            version=before["version"],
            reason="as before",
            epochHours=before["epochHours"],
        )
        assert int(done["policy"]["version"]) == int(before["version"]) + 1
        stale = await do(api, POLICY, finance, version=before["version"], reason="r", epochHours=24)
        assert stale["userErrors"][0]["field"] == ["input", "version"]
        bad = await do(
            api,
            POLICY,
            finance,
            version=done["policy"]["version"],
            reason="r",
            holdbackBands=[{"trustMin": 5, "basisPoints": 1, "days": 1}],
        )
        assert bad["userErrors"][0]["field"] == ["input", "holdbackBands"]

    async def test_trust_is_set(self, api: Api, batches: PayoutBatches, finance: Person) -> None:
        provider_id = show(Prefix.PROVIDER, await batches.provider())
        done = await do(api, TRUST, finance, providerId=provider_id, score=80, reason="long known")
        assert (done["score"], done["provider"]) == (80, {"id": provider_id})
        assert (await do(api, TRUST, finance, providerId=provider_id, score=101, reason="r"))["userErrors"][
            0
        ]["field"] == ["input", "score"]

    async def test_planning_is_asked_of_a_worker_where_solana_is_configured(
        self, api: Api, finance: Person, database_url: str, redis_server: Any
    ) -> None:
        refused = await do(api, PLAN, finance, endsEpoch=True)
        assert refused["userErrors"][0]["code"] == "UNAVAILABLE"
        chain = {
            "solana_chain_id": "solana:localnet",
            "SOLANA_RPC_URL": "http://127.0.0.1:9",
            "usdc_mint": MINT,
            "treasury_address": address(),
        }
        settings = control_settings(database_url, redis_url=redis_server.url, **chain)
        async with api_server(settings) as configured:
            person = await configured.admin()
            done = await do(configured, PLAN, person, endsEpoch=True)
        assert done["item"] == {"task": "payouts.plan", "subject": f"{person.user_id}:end", "state": "READY"}


class TestReview:
    async def test_a_payee_is_followed_to_its_usage_and_who_is_not_paid_is_named(
        self, api: Api, batches: PayoutBatches, finance: Person
    ) -> None:
        sessions = api.services.sessions
        earners = Earners(batches.pool, sessions)
        payee, small = await earners.provider(), await earners.provider()
        for _ in range(3):
            await earners.earn(payee, 10 * USD)
        await earners.claw_back(payee, 6 * USD)
        await earners.earn(small, USD // 2)
        planned = await run_now(sessions, mint=MINT, ends_epoch=True, created_by=None)
        [[number, position]] = await batches.fetch(
            "select b.number, i.position from payout_item i join payout_batch b on b.id = i.batch_id"
            " where i.provider_id = %s",
            payee.provider_id,
        )
        found = (await api(BATCH, finance, number=str(number), first=100)).data["payoutBatch"]
        [item] = [each for each in found["items"]["nodes"] if each["position"] == position]
        assert (item["provider"]["id"], item["amount"]["amount"]) == (payee.id, "21.600000")
        assert (item["wallet"], item["facts"]["refundBasisPoints"]) == (payee.address, 2_000)
        assert [outlier["kind"] for outlier in item["outliers"]] == ["REFUND_SHARE", "FIRST_PAYOUT"]
        first = (await api(USAGE, finance, number=str(number), position=position, first=2)).data[
            "payoutItemUsage"
        ]
        assert [each["amount"]["amount"] for each in first["nodes"]] == ["10.000000000"] * 2
        after = first["pageInfo"]["endCursor"]
        rest = (await api(USAGE, finance, number=str(number), position=position, after=after)).data[
            "payoutItemUsage"
        ]
        assert (len(rest["nodes"]), rest["pageInfo"]["hasNextPage"]) == (1, False)
        unpaid = (await api(UNPAID, finance, epoch=str(planned.epoch.number))).data["unpaidEarnings"]["nodes"]
        [of_small] = [each for each in unpaid if each["provider"]["id"] == small.id]
        assert (of_small["reason"], of_small["earned"]["amount"]) == ("BELOW_MINIMUM", "0.500000000")

    async def test_parts_show_their_attempts_with_links(
        self, api: Api, batches: PayoutBatches, finance: Person
    ) -> None:
        made = await batches.batch(1_000_000)
        await batches.approve(made)
        [[part_id]] = await batches.fetch("select id from payout_part where batch_id = %s", made.id)
        await batches.attempt(part_id)
        number = await number_of(batches, made.id)
        [part] = (await api(BATCH, finance, number=number, first=5)).data["payoutBatch"]["parts"]["nodes"]
        [attempt] = part["attempts"]
        assert (attempt["number"], attempt["state"], attempt["lastValidBlockHeight"]) == (1, "LIVE", "150")
        assert attempt["explorerUrl"].endswith(attempt["signature"])

    async def test_a_page_sends_as_many_statements_for_many_payees_as_for_one(
        self, api: Api, batches: PayoutBatches, finance: Person
    ) -> None:
        one, many = await batches.batch(1_000_000), await batches.batch(*[1_000_000] * 6)
        counts = [
            await statements_of(api, BATCH, finance, number=await number_of(batches, made.id), first=50)
            for made in (one, many)
        ]
        assert counts[0] == counts[1]
        for planner in (await batches.person(), await batches.person()):
            waiting = await batches.batch(1_000_000, created_by=planner)
            await batches.approval(waiting, await batches.person())
        queue = [await statements_of(api, QUEUE.replace("100", size), finance) for size in ("1", "2")]
        assert queue[0] == queue[1]

    async def test_a_batch_or_payee_that_is_not_there(self, api: Api, finance: Person) -> None:
        assert (await api(BATCH, finance, number="999999999")).data == {"payoutBatch": None}
        assert (await api(USAGE, finance, number="999999999", position=0)).code == "NOT_FOUND"


class TestRules:
    async def test_support_sees_no_payouts(self, api: Api, platform: Tenant) -> None:
        for query in (QUEUE, UNPAID, RULES):
            assert (await api(query, platform.people[Role.SUPPORT])).code == "FORBIDDEN"

    async def test_a_provider_does_neither_see_the_queue_nor_approve(self, api: Api) -> None:
        provider = await api.tenant(OrganizationKind.PROVIDER)
        assert (await api(QUEUE, provider.owner)).code == "FORBIDDEN"
        answer = await api(APPROVE, provider.owner, input={"number": "1", "total": "1"})
        assert answer.code == "FORBIDDEN"
