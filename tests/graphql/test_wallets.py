"""Proving a provider's wallet and logging in with it, as clients see it."""

import asyncio
from typing import Any

import pytest
from solders.keypair import Keypair
from sqlalchemy import delete

from raymart_core.clock import now
from raymart_marketplace.accounts.models import Membership, OrganizationKind, Role, User
from raymart_marketplace.accounts.wallet_challenges import (
    CHALLENGE_TTL_S,
    KEY,
    WalletChallenges,
    WalletPurpose,
    make_wallet_challenges,
)
from raymart_marketplace.accounts.wallet_proofs import LIVE_PROOFS_MAX
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.shared_state import make_redis
from support.api_server import Api, Person, Tenant
from support.fixed_clock import FixedClock

CHALLENGE = """mutation ($organization: ID!, $address: String!) {
  createWalletChallenge(input: {organizationId: $organization, address: $address}) {
    message expiresAt userErrors { code field }
  }
}"""
PROVE = """mutation ($organization: ID!, $message: String!, $signature: String!) {
  proveWallet(input: {organizationId: $organization, message: $message, signature: $signature}) {
    wallet { address provenBy { email } firstProvenAt provenAt } userErrors { code field }
  }
}"""
WITHDRAW = """mutation ($organization: ID!, $address: String!) {
  withdrawWallet(input: {organizationId: $organization, address: $address}) {
    wallet { withdrawnAt } userErrors { code }
  }
}"""
LOGIN_CHALLENGE = """mutation ($address: String!) {
  createWalletLoginChallenge(input: {address: $address}) { message userErrors { code field } }
}"""
LOGIN = """mutation ($message: String!, $signature: String!) {
  loginWithWallet(input: {message: $message, signature: $signature}) {
    token refreshToken user { email } session { method } userErrors { code field }
  }
}"""
WALLETS = "query ($id: ID!) { organization(id: $id) { wallets { nodes { address } } } }"


@pytest.fixture
def wallet() -> Keypair:
    return Keypair()


@pytest.fixture
async def provider(api: Api) -> Tenant:
    return await api.tenant(OrganizationKind.PROVIDER)


def sign(wallet: Keypair, message: str) -> str:
    return str(wallet.sign_message(message.encode()))


async def challenge(api: Api, provider: Tenant, wallet: Keypair, person: Person | None = None) -> str:
    answer = await api(
        CHALLENGE, person or provider.owner, organization=provider.id, address=str(wallet.pubkey())
    )
    made = answer.data["createWalletChallenge"]
    assert made["userErrors"] == []
    return made["message"]


async def answer_with(
    api: Api, provider: Tenant, message: str, signature: str, person: Person | None = None
) -> dict[str, Any]:
    answer = await api(
        PROVE, person or provider.owner, organization=provider.id, message=message, signature=signature
    )
    return answer.data["proveWallet"]


async def prove(api: Api, provider: Tenant, wallet: Keypair) -> dict[str, Any]:
    message = await challenge(api, provider, wallet)
    proven = await answer_with(api, provider, message, sign(wallet, message))
    assert proven["userErrors"] == []
    return proven["wallet"]


async def log_in(api: Api, wallet: Keypair) -> dict[str, Any]:
    made = (await api(LOGIN_CHALLENGE, address=str(wallet.pubkey()))).data["createWalletLoginChallenge"]
    answer = await api(LOGIN, message=made["message"], signature=sign(wallet, made["message"]))
    return answer.data["loginWithWallet"]


async def wallets(api: Api, provider: Tenant) -> list[str]:
    shown = (await api(WALLETS, provider.owner, id=provider.id)).data["organization"]["wallets"]["nodes"]
    return [wallet["address"] for wallet in shown]


class TestProof:
    async def test_wallet_is_proven_and_shown(self, api: Api, provider: Tenant, wallet: Keypair):
        message = await challenge(api, provider, wallet)
        assert f"Request ID: {provider.id}" in message
        assert message.startswith("127.0.0.1:8000 wants you to sign in")
        proven = await answer_with(api, provider, message, sign(wallet, message))
        assert proven["wallet"]["provenBy"] == {"email": provider.owner.email}
        assert await wallets(api, provider) == [str(wallet.pubkey())]

    async def test_answer_counts_once(self, api: Api, provider: Tenant, wallet: Keypair):
        message = await challenge(api, provider, wallet)
        answers = await asyncio.gather(
            *(answer_with(api, provider, message, sign(wallet, message)) for _ in range(5))
        )
        refused = [answer for answer in answers if answer["userErrors"]]
        assert len(refused) == 4
        assert {error["code"] for answer in refused for error in answer["userErrors"]} == {
            "INVALID_CREDENTIALS"
        }

    async def test_wrong_signature_ends_the_challenge(self, api: Api, provider: Tenant, wallet: Keypair):
        message = await challenge(api, provider, wallet)
        wrong = await answer_with(api, provider, message, sign(Keypair(), message))
        assert wrong["userErrors"] == [{"code": "INVALID_CREDENTIALS", "field": ["input", "signature"]}]
        right = await answer_with(api, provider, message, sign(wallet, message))
        assert right["userErrors"] == [{"code": "INVALID_CREDENTIALS", "field": ["input", "message"]}]
        assert await wallets(api, provider) == []

    async def test_text_of_ones_own_is_refused_though_it_is_signed(
        self, api: Api, provider: Tenant, wallet: Keypair
    ):
        for old, new in (
            ("127.0.0.1:8000", "evil.example"),
            ("mainnet", "devnet"),
            ("T", "t"),
            ("owns", "0wns"),
        ):
            message = await challenge(api, provider, wallet)
            changed = message.replace(old, new, 1)
            assert changed != message
            answered = await answer_with(api, provider, changed, sign(wallet, changed))
            assert answered["userErrors"]
        invented = (await challenge(api, provider, wallet)).replace("Nonce: ", "Nonce: a")
        assert (await answer_with(api, provider, invented, sign(wallet, invented)))["userErrors"]
        assert await wallets(api, provider) == []

    async def test_challenge_of_another_organization_or_person_proves_nothing(
        self, api: Api, provider: Tenant, wallet: Keypair
    ):
        rival = await api.tenant(OrganizationKind.PROVIDER)
        async with session_scope(api.services.sessions) as session:
            for tenant, other in ((provider, rival), (rival, provider)):
                session.add(
                    Membership(
                        organization_id=tenant.organization_id, user_id=other.owner.user_id, role=Role.OWNER
                    )
                )
        for tenant, person in ((rival, provider.owner), (provider, rival.owner)):
            message = await challenge(api, tenant, wallet, person)
            answered = await answer_with(api, provider, message, sign(wallet, message))
            assert [error["code"] for error in answered["userErrors"]] == ["FORBIDDEN"]

    async def test_challenge_for_a_login_proves_nothing(self, api: Api, provider: Tenant, wallet: Keypair):
        made = (await api(LOGIN_CHALLENGE, address=str(wallet.pubkey()))).data["createWalletLoginChallenge"]
        answered = await answer_with(api, provider, made["message"], sign(wallet, made["message"]))
        assert [error["code"] for error in answered["userErrors"]] == ["INVALID_CREDENTIALS"]

    async def test_repeat_renews_and_keeps_the_first_time(self, api: Api, provider: Tenant, wallet: Keypair):
        first, again = await prove(api, provider, wallet), await prove(api, provider, wallet)
        assert again["firstProvenAt"] == first["firstProvenAt"]
        assert again["provenAt"] > first["provenAt"]
        assert len(await wallets(api, provider)) == 1

    async def test_admin_without_payouts_is_refused(self, api: Api, provider: Tenant, wallet: Keypair):
        answer = await api(
            CHALLENGE, provider.people[Role.ADMIN], organization=provider.id, address=str(wallet.pubkey())
        )
        assert answer.code == "FORBIDDEN"

    async def test_organization_has_a_few_wallets_at_most(self, api: Api, provider: Tenant):
        for _ in range(LIVE_PROOFS_MAX):
            await prove(api, provider, Keypair())
        last = Keypair()
        message = await challenge(api, provider, last)
        refused = await answer_with(api, provider, message, sign(last, message))
        assert [error["code"] for error in refused["userErrors"]] == ["CONFLICT"]

    async def test_wrong_address_is_a_user_error(self, api: Api, provider: Tenant):
        answer = await api(CHALLENGE, provider.owner, organization=provider.id, address="nope")
        assert answer.data["createWalletChallenge"]["userErrors"] == [
            {"code": "INVALID", "field": ["input", "address"]}
        ]


class TestLogin:
    async def test_proven_wallet_opens_a_session_of_who_proved_it(
        self, api: Api, provider: Tenant, wallet: Keypair
    ):
        await prove(api, provider, wallet)
        opened = await log_in(api, wallet)
        assert opened["user"] == {"email": provider.owner.email}
        assert opened["session"] == {"method": "WALLET"}
        viewer = await api("{ viewer { user { email } } }", opened["token"])
        assert viewer.data["viewer"]["user"]["email"] == provider.owner.email

    async def test_unproven_wallet_is_refused(self, api: Api, wallet: Keypair):
        refused = await log_in(api, wallet)
        assert [error["code"] for error in refused["userErrors"]] == ["INVALID_CREDENTIALS"]
        assert refused["token"] is None

    async def test_login_counts_once(self, api: Api, provider: Tenant, wallet: Keypair):
        await prove(api, provider, wallet)
        made = (await api(LOGIN_CHALLENGE, address=str(wallet.pubkey()))).data["createWalletLoginChallenge"]
        given = {"message": made["message"], "signature": sign(wallet, made["message"])}
        assert (await api(LOGIN, **given)).data["loginWithWallet"]["userErrors"] == []
        assert (await api(LOGIN, **given)).data["loginWithWallet"]["userErrors"]

    async def test_challenge_for_a_proof_logs_nobody_in(self, api: Api, provider: Tenant, wallet: Keypair):
        await prove(api, provider, wallet)
        message = await challenge(api, provider, wallet)
        answer = await api(LOGIN, message=message, signature=sign(wallet, message))
        assert answer.data["loginWithWallet"]["userErrors"]

    async def test_later_proof_of_another_provider_does_not_take_the_login_over(
        self, api: Api, provider: Tenant, wallet: Keypair
    ):
        rival = await api.tenant(OrganizationKind.PROVIDER)
        await prove(api, provider, wallet)
        await prove(api, rival, wallet)
        assert (await log_in(api, wallet))["user"] == {"email": provider.owner.email}
        withdrawn = await api(
            WITHDRAW, provider.owner, organization=provider.id, address=str(wallet.pubkey())
        )
        assert withdrawn.data["withdrawWallet"]["wallet"]["withdrawnAt"]
        assert (await log_in(api, wallet))["user"] == {"email": rival.owner.email}

    async def test_who_was_disabled_or_left_is_refused(self, api: Api, provider: Tenant, wallet: Keypair):
        await prove(api, provider, wallet)
        async with session_scope(api.services.sessions) as session:
            (await session.get_one(User, provider.owner.user_id)).disabled_at = now()
        assert (await log_in(api, wallet))["userErrors"]
        async with session_scope(api.services.sessions) as session:
            (await session.get_one(User, provider.owner.user_id)).disabled_at = None
            await session.execute(delete(Membership).where(Membership.user_id == provider.owner.user_id))
        assert (await log_in(api, wallet))["userErrors"]


class TestChallenges:
    async def test_challenge_is_over_after_five_minutes(self, api: Api, wallet: Keypair):
        clock = FixedClock(now())
        challenges = WalletChallenges(
            api.services.redis, domain="d", uri="https://d", chain_id="solana:devnet", clock=clock
        )
        made = await challenges.make(
            WalletPurpose.LOGIN, address=str(wallet.pubkey()), statement="s", request_id="r"
        )
        [key] = [each async for each in api.services.redis.scan_iter(match=f"{KEY}*")][:1]
        assert 0 < await api.services.redis.ttl(key) <= CHALLENGE_TTL_S
        clock.advance(seconds=CHALLENGE_TTL_S)
        with pytest.raises(Exception, match="older than five minutes"):
            await challenges.take(WalletPurpose.LOGIN, text=made.text(), signature=sign(wallet, made.text()))

    async def test_nonce_is_not_in_redis(self, api: Api, wallet: Keypair):
        """Who reads Redis finds nothing that could be signed or answered."""
        made = await api.services.wallet_challenges.make(
            WalletPurpose.LOGIN, address=str(wallet.pubkey()), statement="s", request_id="r"
        )
        keys = [key async for key in api.services.redis.scan_iter(match=f"{KEY}*")]
        values = [await api.services.redis.get(key) or b"" for key in keys]
        assert keys
        assert not any(made.nonce.encode() in each for each in (*keys, *values))

    async def test_without_redis_wallets_are_unavailable(self, api: Api, wallet: Keypair):
        away = make_redis("redis://127.0.0.1:1/0")
        challenges = make_wallet_challenges(api.services.settings, away)
        with pytest.raises(Exception, match="cannot be proven for the moment"):
            await challenges.make(
                WalletPurpose.LOGIN, address=str(wallet.pubkey()), statement="s", request_id="r"
            )
        await away.aclose()
