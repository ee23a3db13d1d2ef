"""Payout wallets as providers and administrators use them, and promise 19: what a stolen session cannot do to them."""

from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from solders.keypair import Keypair
from sqlalchemy import select

from raymart_billing.payout_wallets import NotPayable, NoWallet, PayableWallet, PayoutWallet, payable_wallet
from raymart_billing.payout_wallets.requests import TELL_TASK
from raymart_billing.work.models import OutboxItem
from raymart_core.ids import Prefix, show
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.audit import AuditEntry
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.supply.models import ProviderState
from raymart_marketplace.supply.service import create_provider
from support.api_server import Api, Person, Tenant
from support.devices import Device
from support.payout_wallets import Payee, pass_time, passed

CHALLENGE = """mutation ($organization: ID!, $address: String!) {
  createWalletChallenge(input: {organizationId: $organization, address: $address}) { message userErrors { code } }
}"""
PROVE = """mutation ($organization: ID!, $message: String!, $signature: String!) {
  proveWallet(input: {organizationId: $organization, message: $message, signature: $signature}) {
    wallet { address } userErrors { code }
  }
}"""
CHOOSE = """mutation ($provider: ID!, $address: String!, $warnings: [PayoutWalletWarning!]! = []) {
  choosePayoutWallet(input: {providerId: $provider, address: $address, acknowledgedWarnings: $warnings}) {
    wallet { address payableFrom isPayable notPayableBecause check warnings chosenBy { email } }
    warnings userErrors { code field message }
  }
}"""
CANCEL = """mutation ($provider: ID!) {
  cancelPayoutWallet(input: {providerId: $provider}) { wallet { address isPayable } userErrors { code } }
}"""
WITHDRAW = """mutation ($organization: ID!, $address: String!) {
  withdrawWallet(input: {organizationId: $organization, address: $address}) { userErrors { code } }
}"""
SHOWN = """query ($provider: ID!) {
  provider(id: $provider) {
    payoutWallet { address isPayable notPayableBecause endReason }
    payoutWallets(first: 10) { nodes { address endReason endedAt } }
  }
}"""
SHARED = "query ($id: ID!) { provider(id: $id) { payoutWallet { warnings sharedWith { id } } } }"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selling:
    """A provider and its people."""

    api: Api
    tenant: Tenant
    payee: Payee

    async def prove(self, wallet: Keypair, by: str | None = None) -> None:
        """As the owner's browser does it."""
        credential = by or self.tenant.owner.token
        asked = {"organization": self.tenant.id, "address": str(wallet.pubkey())}
        made = (await self.api(CHALLENGE, credential, **asked)).data["createWalletChallenge"]
        signature = str(wallet.sign_message(made["message"].encode()))
        proven = await self.api(
            PROVE, credential, organization=self.tenant.id, message=made["message"], signature=signature
        )
        assert proven.data["proveWallet"]["userErrors"] == []

    async def choose(self, wallet: Keypair, *warnings: str, by: Person | str | None = None) -> dict[str, Any]:
        answer = await self.api(
            CHOOSE,
            by or self.tenant.owner,
            provider=self.payee.id,
            address=str(wallet.pubkey()),
            warnings=list(warnings),
        )
        return answer.data["choosePayoutWallet"]

    async def shown(self, by: Person | None = None) -> dict[str, Any]:
        answer = await self.api(SHOWN, by or self.tenant.owner, provider=self.payee.id)
        return answer.data["provider"]

    async def standing(self) -> PayableWallet | NotPayable:
        async with session_scope(self.api.services.sessions) as session:
            return await payable_wallet(session, self.payee.provider_id)

    async def pass_checks(self) -> None:
        """As the worker does once the chain has answered."""
        async with session_scope(self.api.services.sessions) as session:
            for wallet_id in await session.scalars(
                select(PayoutWallet.id).where(
                    PayoutWallet.provider_id == self.payee.provider_id, PayoutWallet.ended_at.is_(None)
                )
            ):
                await passed(session, wallet_id)


async def selling_on(api: Api) -> Selling:
    tenant = await api.tenant(OrganizationKind.PROVIDER)
    async with session_scope(api.services.sessions) as session:
        slug = f"prov-{tenant.organization_id.hex[-12:]}"
        provider = await create_provider(
            session, organization_id=tenant.organization_id, slug=slug, name=slug, state=ProviderState.ACTIVE
        )
    payee = Payee(
        provider_id=provider.id,
        organization_id=tenant.organization_id,
        owner_id=tenant.owner.user_id,
        email=tenant.owner.email,
    )
    return Selling(api=api, tenant=tenant, payee=payee)


@pytest_asyncio.fixture(loop_scope="session")
async def selling(api: Api) -> Selling:
    """A provider without a wallet."""
    return await selling_on(api)


@pytest_asyncio.fixture(loop_scope="session")
async def paid(selling: Selling) -> Selling:
    """A provider that may be paid to `payee.wallet`."""
    await selling.prove(selling.payee.wallet)
    assert (await selling.choose(selling.payee.wallet))["userErrors"] == []
    await selling.pass_checks()
    return selling


class TestChoice:
    async def test_first_wallet_is_chosen_checked_and_payable(self, selling: Selling) -> None:
        wallet = selling.payee.wallet
        await selling.prove(wallet)
        chosen = await selling.choose(wallet)
        assert chosen["userErrors"] == []
        assert chosen["wallet"]["check"] == "UNCHECKED"
        assert chosen["wallet"]["chosenBy"] == {"email": selling.tenant.owner.email}
        assert "not checked on the chain yet" in chosen["wallet"]["notPayableBecause"]
        await selling.pass_checks()
        shown = await selling.shown(selling.tenant.people[Role.VIEWER])
        assert shown["payoutWallet"] == {
            "address": str(wallet.pubkey()),
            "isPayable": True,
            "notPayableBecause": None,
            "endReason": None,
        }

    async def test_change_is_cancelled_and_both_stay_in_the_history(self, paid: Selling) -> None:
        other = Keypair()
        await paid.prove(other)
        changed = (await paid.choose(other))["wallet"]
        assert not changed["isPayable"]
        assert "nothing is paid before" in changed["notPayableBecause"] or changed["check"] == "UNCHECKED"
        cancelled = await paid.api(CANCEL, paid.tenant.owner, provider=paid.payee.id)
        assert cancelled.data["cancelPayoutWallet"] == {
            "wallet": {"address": paid.payee.address, "isPayable": True},
            "userErrors": [],
        }
        shown = await paid.shown()
        history = [(each["address"], each["endReason"]) for each in shown["payoutWallets"]["nodes"]]
        assert history == [(str(other.pubkey()), "CANCELLED"), (paid.payee.address, None)]

    async def test_withdrawing_the_proof_ends_it_and_tells_the_owners(self, paid: Selling) -> None:
        await paid.api(WITHDRAW, paid.tenant.owner, organization=paid.tenant.id, address=paid.payee.address)
        shown = await paid.shown()
        assert shown["payoutWallet"] is None
        assert [each["endReason"] for each in shown["payoutWallets"]["nodes"]] == ["PROOF_WITHDRAWN"]
        async with session_scope(paid.api.services.sessions) as session:
            wallet_id = await session.scalar(
                select(PayoutWallet.id).where(PayoutWallet.provider_id == paid.payee.provider_id)
            )
            told = await session.scalars(
                select(OutboxItem.subject).where(
                    OutboxItem.task == TELL_TASK, OutboxItem.subject.startswith(str(wallet_id))
                )
            )
            assert sorted(told) == [f"{wallet_id}:chosen", f"{wallet_id}:proof_withdrawn"]

    async def test_choice_is_in_the_audit_log(self, paid: Selling) -> None:
        async with session_scope(paid.api.services.sessions) as session:
            acts = await session.scalars(
                select(AuditEntry.action).where(
                    AuditEntry.organization_id == paid.tenant.organization_id,
                    AuditEntry.actor_id == paid.tenant.owner.user_id,
                )
            )
            assert "choosePayoutWallet" in set(acts)

    async def test_address_that_is_none_is_a_user_error(self, selling: Selling) -> None:
        answer = await selling.api(CHOOSE, selling.tenant.owner, provider=selling.payee.id, address="nope")
        [error] = answer.data["choosePayoutWallet"]["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID", ["input", "address"])


class TestWarnings:
    async def test_shared_wallet_is_chosen_once_it_was_acknowledged_and_shown_to_admins(
        self, api: Api, paid: Selling
    ) -> None:
        rival = await selling_on(api)
        await rival.prove(paid.payee.wallet)
        warned = await rival.choose(paid.payee.wallet)
        assert warned["wallet"] is None
        assert warned["warnings"] == ["SHARED"]
        assert warned["userErrors"][0]["field"] == ["input", "acknowledgedWarnings"]
        chosen = await rival.choose(paid.payee.wallet, "SHARED")
        assert chosen["wallet"]["warnings"] == ["SHARED"]
        seen = {}
        for who, person in {"admin": await api.admin(), "owner": rival.tenant.owner}.items():
            answer = await api(SHARED, person, id=rival.payee.id)
            seen[who] = answer.data["provider"]["payoutWallet"]
        assert seen["admin"] == {"warnings": ["SHARED"], "sharedWith": [{"id": paid.tenant.id}]}
        assert seen["owner"] == {"warnings": ["SHARED"], "sharedWith": None}


class TestPermissions:
    @pytest.mark.parametrize("role", [Role.ADMIN, Role.OPERATOR, Role.VIEWER])
    async def test_only_owners_say_where_money_goes(self, paid: Selling, role: Role) -> None:
        person = paid.tenant.people[role]
        for query in (CHOOSE, CANCEL):
            answer = await paid.api(query, person, provider=paid.payee.id, address=paid.payee.address)
            assert answer.code == "FORBIDDEN"
        assert (await paid.shown(person))["payoutWallet"]["address"] == paid.payee.address

    async def test_other_tenants_and_the_platform_change_nothing(self, api: Api, paid: Selling) -> None:
        rival = await selling_on(api)
        for person in (rival.tenant.owner, await api.admin()):
            answer = await api(CHOOSE, person, provider=paid.payee.id, address=paid.payee.address)
            assert answer.code == "FORBIDDEN"

    async def test_strangers_see_nothing_of_it(self, api: Api, paid: Selling) -> None:
        rival = await selling_on(api)
        for person in (rival.tenant.owner, None):
            for field in ("payoutWallet { address }", "payoutWallets { nodes { address } }"):
                answer = await api(
                    f"query ($id: ID!) {{ provider(id: $id) {{ {field} }} }}", person, id=paid.payee.id
                )
                assert answer.code in {"FORBIDDEN", "UNAUTHENTICATED"}


@pytest_asyncio.fixture(loop_scope="session")
async def owner(strict_api: Api) -> tuple[Selling, Device]:
    """A provider that may be paid, and its owner's device with a fresh second factor."""
    selling = await selling_on(strict_api)
    device = await Device(strict_api, selling.tenant.owner).enrol()
    await selling.prove(selling.payee.wallet, by=device.token)
    assert (await selling.choose(selling.payee.wallet, by=device.token))["userErrors"] == []
    await selling.pass_checks()
    return selling, device


async def still_paid_to_the_owner(selling: Selling) -> bool:
    found = await selling.standing()
    return isinstance(found, PayableWallet) and found.address == selling.payee.address


class TestStolenSession:
    """Promise 19, first half. Somebody holds an owner's session, and wants the next payout."""

    async def test_without_the_second_factor_it_proves_chooses_and_cancels_nothing(
        self, strict_api: Api, owner: tuple[Selling, Device]
    ) -> None:
        selling, device = owner
        await device.age(minutes=16)
        thief = Keypair()
        for query, variables in (
            (PROVE, {"organization": selling.tenant.id, "message": "m", "signature": "s"}),
            (CHOOSE, {"provider": selling.payee.id, "address": str(thief.pubkey())}),
            (CANCEL, {"provider": selling.payee.id}),
            (WITHDRAW, {"organization": selling.tenant.id, "address": selling.payee.address}),
        ):
            assert (await strict_api(query, device.token, **variables)).code == "SECOND_FACTOR_REQUIRED"
        assert await still_paid_to_the_owner(selling)

    async def test_with_the_second_factor_but_without_the_wallets_key_it_chooses_nothing(
        self, owner: tuple[Selling, Device], owner_url: str
    ) -> None:
        """Neither a wallet that was never proven, nor an old one of the organization whose proof is of last week."""
        selling, device = owner
        former = Keypair()
        await selling.prove(former, by=device.token)
        pass_time(owner_url, selling.payee, hours=1)
        for wallet in (Keypair(), former):
            refused = await selling.choose(wallet, by=device.token)
            assert [error["code"] for error in refused["userErrors"]] == ["CONFLICT"]
            assert "createWalletChallenge" in refused["userErrors"][0]["message"]
        assert await still_paid_to_the_owner(selling)

    async def test_with_everything_it_waits_for_72_hours_and_the_owner_takes_it_back(
        self, strict_api: Api, owner: tuple[Selling, Device], owner_url: str
    ) -> None:
        selling, device = owner
        thief = Keypair()
        await selling.prove(thief, by=device.token)
        assert (await selling.choose(thief, by=device.token))["userErrors"] == []
        await selling.pass_checks()
        pass_time(owner_url, selling.payee, hours=71)
        found = await selling.standing()
        assert isinstance(found, NotPayable)
        assert found.reason is NoWallet.COOLING_DOWN
        async with session_scope(strict_api.services.sessions) as session:
            wallet_id = await session.scalar(
                select(PayoutWallet.id).where(
                    PayoutWallet.provider_id == selling.payee.provider_id, PayoutWallet.ended_at.is_(None)
                )
            )
            told = await session.scalar(
                select(OutboxItem.id).where(
                    OutboxItem.task == TELL_TASK, OutboxItem.subject == f"{wallet_id}:chosen"
                )
            )
            assert told is not None, "every owner has a mail about it"
        back = await strict_api(
            CANCEL, device.token, provider=show(Prefix.PROVIDER, selling.payee.provider_id)
        )
        assert back.data["cancelPayoutWallet"]["wallet"]["address"] == selling.payee.address
        assert await still_paid_to_the_owner(selling)
