"""`raymart payouts`: batches and rules at the shell."""

import json
from collections.abc import AsyncIterator

import pytest

from raymart_billing.connections import make_pool
from support.command_line import failed, run
from support.payout_batches import MINT, PayoutBatches

CHAIN = {
    "SOLANA_RPC_URL": "http://127.0.0.1:9",
    "RAYMART_SOLANA_CHAIN_ID": "solana:localnet",
    "RAYMART_USDC_MINT": MINT,
    "RAYMART_TREASURY_ADDRESS": MINT,
}


@pytest.fixture
async def batches(database_url: str) -> AsyncIterator[PayoutBatches]:
    async with make_pool(database_url, size_max=2, name="test") as pool:
        yield PayoutBatches(pool)


class Shell:
    """`raymart payouts` as one administrator."""

    def __init__(self, url: str, actor: str) -> None:
        self.url, self.actor = url, actor

    def __call__(self, *arguments: str) -> str:
        done = run(self.url, "payouts", *arguments, **CHAIN)
        assert done.returncode == 0, done
        return done.stdout

    def rows(self, *arguments: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self(*arguments, "-o", "json"))
        return found

    def act(self, *arguments: str) -> str:
        return self(*arguments, "--actor", self.actor)

    def refused(self, *arguments: str) -> str:
        return failed(run(self.url, "payouts", *arguments, "--actor", self.actor, **CHAIN))


@pytest.fixture
async def shell(database_url: str, batches: PayoutBatches) -> Shell:
    person = await batches.person()
    return Shell(database_url, await batches.value('select email from "user" where id = %s', person))


async def number_of(batches: PayoutBatches, batch_id: object) -> str:
    return str(await batches.value("select number from payout_batch where id = %s", batch_id))


class TestBatches:
    async def test_a_batch_is_listed_shown_split_and_approved(self, batches: PayoutBatches, shell: Shell):
        made = await batches.batch(1_000_000, 2_500_000)
        number = await number_of(batches, made.id)
        [listed] = [row for row in shell.rows("list", "--state", "planned") if str(row["number"]) == number]
        assert (listed["total"], listed["approvals"]) == ("3.500000 USDC", "0 of 1")
        shown = shell.rows("show", number)
        assert [row["amount"] for row in shown] == ["1.000000 USDC", "2.500000 USDC"]
        assert "nothing was paid to this provider before" in str(shown[0]["outliers"])
        assert "with 1 payees and 2.500000 USDC" in shell.act("split", number, "1", "--reason", "new")
        assert "number" in shell("list")
        assert "look at it again" in shell.refused("approve", number, "--total", "3.5")
        assert "is approved" in shell.act("approve", number, "--total", "1")
        [part] = shell.rows("show", number, "--transactions")
        assert (part["state"], part["total"], part["link"]) == ("planned", "1.000000 USDC", None)

    async def test_hold_release_and_what_cannot_be(self, batches: PayoutBatches, shell: Shell):
        number = await number_of(batches, (await batches.batch(1_000_000)).id)
        assert "is held" in shell.act("hold", number, "--reason", "a doubt")
        assert "is planned" in shell.act("release", number)
        assert "not held" in shell.refused("release", number)
        assert "no payout batch" in shell.refused("hold", "999999999", "--reason", "r")
        assert "no payee" in shell.refused("split", number, "7", "--reason", "r")
        assert "a lot" in shell.refused("approve", number, "--total", "a lot")

    async def test_cancelling_gives_back_through_the_ledger(self, batches: PayoutBatches, shell: Shell):
        made = await batches.batch(1_000_000)
        number = await number_of(batches, made.id)
        # Its money was never put on its way, so there is none to give back, and the ledger says so.
        done = run(
            shell.url, "payouts", "cancel", number, "--reason", "wrong", "--actor", shell.actor, **CHAIN
        )
        assert (done.returncode, "does not cover" in done.stderr) == (1, True), done

    def test_planning_says_who_is_paid_and_needs_solana(self, shell: Shell):
        assert "SOLANA_RPC_URL" in failed(run(shell.url, "payouts", "plan"))
        assert "payees in" in shell("plan", "--end-epoch")


class TestRules:
    async def test_the_switch_stops_and_resumes(self, shell: Shell):
        assert shell.rows("switch") == []
        assert "stopped" in shell.act("switch", "pause", "--reason", "an alarm")
        assert [row["reason"] for row in shell.rows("switch")] == ["an alarm"]
        assert "go on" in shell.act("switch", "resume", "--reason", "cleared")
        assert "not stopped" in shell.refused("switch", "resume", "--reason", "cleared")
        assert "switch pause" in shell.refused("switch", "off", "--reason", "r")

    async def test_a_rule_is_changed_and_the_others_stay(self, shell: Shell):
        before = {row["rule"]: row["value"] for row in shell.rows("policy")}
        try:
            assert "holds" in shell.act("policy", "--minimum", "0.01", "--reason", "a demonstration")
            after = {row["rule"]: row["value"] for row in shell.rows("policy")}
            assert after["minimum"] == "0.010000 USDC"
            assert {**after, "minimum": 0, "version": 0, "reason": 0} == {
                **before, "minimum": 0, "version": 0, "reason": 0
            }  # fmt: skip
        finally:
            shell.act("policy", "--minimum", str(before["minimum"]).split()[0], "--reason", "as before")
        assert "--reason" in shell.refused("policy", "--epoch-hours", "24")
        assert "no list of bands" in shell.refused("policy", "--holdback", "[1]", "--reason", "r")
        assert "begin at 0" in shell.refused(
            "policy", "--holdback", '[{"trust_min": 5, "basis_points": 1, "days": 1}]', "--reason", "r"
        )

    async def test_trust_is_set(self, batches: PayoutBatches, shell: Shell):
        provider_id = await batches.provider()
        slug = await batches.value("select slug from provider where id = %s", provider_id)
        assert "80 of 100" in shell.act("trust", slug, "80", "--reason", "long known")
        assert "no provider" in shell.refused("trust", "nobody", "80", "--reason", "r")
