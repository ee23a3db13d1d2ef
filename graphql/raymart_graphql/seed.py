"""Accounts, models, offers and credit of the demo. Idempotent: it runs at every `raymart up`.

Only the demo's own rows are touched, and what people changed in them (asks, a paused offer) stays. Secrets live in
`credentials.json` alone; what it has and the database accepts is kept, anything else is made anew. So a crash between
the commit and the file, or a deleted file, is repaired by the next run.
"""

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_billing.credits import grant
from raymart_core.ids import Prefix, show
from raymart_core.money import Money
from raymart_graphql.operator.secret_file import write_secret
from raymart_graphql.seed_models import DEMO_MODELS, DemoModel, ensure_rate_card, ensure_revision
from raymart_graphql.seed_wallets import DemoWallets, ensure_payout_wallet
from raymart_marketplace.accounts.api_keys import hash_key
from raymart_marketplace.accounts.models import Organization, OrganizationKind, Project, Role, User
from raymart_marketplace.accounts.passwords import verify_password
from raymart_marketplace.accounts.service import (
    add_member,
    api_keys,
    create_api_key,
    create_organization,
    create_user,
    organization_by_slug,
    platform_organization,
    projects,
    revoke_api_key,
    set_password,
    user_by_email,
)
from raymart_marketplace.accounts.tokens import AccessTokens
from raymart_marketplace.catalog.models import ModelRevision
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import Node, NodeRole, Pool, PoolKind, Provider, ProviderState
from raymart_marketplace.supply.service import (
    create_join_token,
    create_pool,
    create_provider,
    offers_of,
    open_offer,
    pool_by_slug,
    provider_of,
)

TREASURER_EMAIL = "treasurer@raymart.test"
ADMIN_EMAIL = "admin@raymart.test"
CUSTOMER_EMAIL = "customer@raymart.test"
CUSTOMER_SLUG = "demo-customer"
KEY_NAME = "demo"
CREDIT = Money(1_000_000_000)
"""One dollar."""
POOL_SLUG = "house"
POOL_REGION = "local"
CONTROLLER_NAME = "controller"

_ADVISORY_LOCK = 7_240_002
"""Key of the lock that keeps two seeds apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoProvider:
    """One of the demo's providers, with its one node in the house pool."""

    slug: str
    name: str
    email: str
    node_name: str
    ask_basis_points: int
    """At what share of the rate card it sells."""


PROVIDERS = (
    DemoProvider(
        slug="alpha",
        name="Alpha Compute",
        email="alpha@raymart.test",
        node_name="demo-a",
        ask_basis_points=8_000,
    ),
    DemoProvider(
        slug="beta",
        name="Beta Compute",
        email="beta@raymart.test",
        node_name="demo-b",
        ask_basis_points=10_000,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What an earlier run wrote, when it still holds."""

    passwords: dict[str, str]
    """By e-mail address."""
    api_key: str | None


async def seed(
    sessions: Sessions,
    tokens: AccessTokens,
    *,
    base_url: str,
    credentials: Path,
    join_tokens: Path,
    wallets: DemoWallets | None = None,
) -> None:
    """Make the demo's rows in one transaction, then write `credentials` and the join tokens, all mode 0600.

    With `wallets` each provider gets a payout wallet, whose key is written before the transaction ends.

    `join_tokens` gets a file per node (and one for the controller) that has not enrolled yet. One seed runs at a time,
    its files included: else one run's file could outlive the passwords of the other.
    """
    async with session_scope(sessions) as turn:
        await turn.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        kept = await asyncio.to_thread(read_kept, credentials)
        async with session_scope(sessions) as session:
            document, joins = await _rows(session, tokens, kept, wallets)
        await asyncio.to_thread(_write, credentials, {"base_url": base_url} | document, join_tokens, joins)


async def _rows(
    session: AsyncSession, tokens: AccessTokens, kept: Kept, wallets: DemoWallets | None
) -> tuple[dict[str, object], dict[str, str | None]]:
    """Everything in the database: the credentials' content, and the join token of each node, None once enrolled."""
    people = _People(session, tokens, kept)
    admin, admin_login = await _admin(session, people)
    treasurer_login = await _treasurer(session, people)
    customer_login = await _customer(session, people, kept, admin)
    models = [(demo, await ensure_revision(session, demo)) for demo in DEMO_MODELS]
    for model, revision in models:
        await ensure_rate_card(session, model, revision, admin)
    pool = await pool_by_slug(session, POOL_SLUG) or await create_pool(
        session, slug=POOL_SLUG, kind=PoolKind.HOUSE, region=POOL_REGION
    )
    provider_logins = []
    joins: dict[str, str | None] = {}
    for demo in PROVIDERS:
        provider, login = await _provider(session, people, demo)
        if wallets is not None:
            owner_id = tokens.verify(str(login["token"])).user_id
            await ensure_payout_wallet(session, wallets, provider=provider, owner_id=owner_id)
        for model, revision in models:
            await _offer(session, demo, provider, model=model, revision=revision)
        joins[demo.node_name] = await _join_token(session, pool, name=demo.node_name, provider=provider)
        provider_logins.append(login)
    joins[CONTROLLER_NAME] = await _join_token(session, pool, name=CONTROLLER_NAME, provider=None)
    document: dict[str, object] = {
        "admin": admin_login,
        "treasurer": treasurer_login,
        "customer": customer_login,
        "providers": provider_logins,
    }
    return document, joins


def read_kept(credentials: Path) -> Kept:
    """What an earlier `credentials` file holds; nothing when it is missing or damaged."""
    try:
        document = json.loads(credentials.read_text(encoding="utf-8"))
        logins = [document["admin"], document["customer"], *document["providers"]]
        # Files of before have none.
        logins += [document["treasurer"]] if "treasurer" in document else []
        return Kept(
            passwords={str(login["email"]): str(login["password"]) for login in logins},
            api_key=str(document["customer"]["api_key"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Kept(passwords={}, api_key=None)


class _People:
    """Makes users, or finds them and sees that their password is known."""

    def __init__(self, session: AsyncSession, tokens: AccessTokens, kept: Kept) -> None:
        self._session = session
        self._tokens = tokens
        self._kept = kept

    async def ensure(self, *, email: str, name: str) -> tuple[User, dict[str, object]]:
        """The user with this address and their part of the credentials."""
        password = self._kept.passwords.get(email) or secrets.token_urlsafe(18)
        user = await user_by_email(self._session, email)
        if user is None:
            user = await create_user(self._session, email=email, password=password, name=name)
        elif not await asyncio.to_thread(verify_password, password, user.password_hash):
            await set_password(self._session, user_id=user.id, password=password)
        return user, {"email": email, "password": password, "token": self._tokens.issue(user.id)}


async def _admin(session: AsyncSession, people: _People) -> tuple[User, dict[str, object]]:
    """The administrator."""
    organization = await platform_organization(session)
    user, login = await people.ensure(email=ADMIN_EMAIL, name="Demo administrator")
    await add_member(session, organization_id=organization.id, user_id=user.id, role=Role.ADMIN)
    return user, login


async def _treasurer(session: AsyncSession, people: _People) -> dict[str, object]:
    """Who plans payouts: nobody approves what they planned, so the administrator alone could pay nobody."""
    organization = await platform_organization(session)
    user, login = await people.ensure(email=TREASURER_EMAIL, name="Demo treasurer")
    await add_member(session, organization_id=organization.id, user_id=user.id, role=Role.FINANCE)
    return login


async def _customer(session: AsyncSession, people: _People, kept: Kept, admin: User) -> dict[str, object]:
    """The customer with a key and a first credit."""
    user, login = await people.ensure(email=CUSTOMER_EMAIL, name="Demo customer")
    organization = await _organization(
        session, user, slug=CUSTOMER_SLUG, name="Demo customer", kind=OrganizationKind.CUSTOMER
    )
    project = (await projects(session, organization.id))[0]
    await grant(
        session,
        organization_id=organization.id,
        amount=CREDIT,
        key=f"seed:{organization.id.hex}",
        actor_id=admin.id,
    )
    return login | {
        "api_key": await _api_key(session, user, project, kept.api_key),
        "organization_id": show(Prefix.ORGANIZATION, organization.id),
    }


async def _organization(
    session: AsyncSession, owner: User, *, slug: str, name: str, kind: OrganizationKind
) -> Organization:
    """The organization with this slug, owned by `owner`."""
    found = await organization_by_slug(session, slug)
    organization = found or await create_organization(session, name=name, kind=kind, slug=slug)
    await add_member(session, organization_id=organization.id, user_id=owner.id, role=Role.OWNER)
    return organization


async def _api_key(session: AsyncSession, user: User, project: Project, kept_key: str | None) -> str:
    """The key of the earlier run while it lives, else a new one; demo keys that nobody holds any more are revoked."""
    living = [key for key in await api_keys(session, project.id) if key.name == KEY_NAME]
    if kept_key is not None and any(key.key_hash == hash_key(kept_key) for key in living):
        return kept_key
    for lost in living:
        await revoke_api_key(session, api_key_id=lost.id)
    _, text = await create_api_key(session, project_id=project.id, user_id=user.id, name=KEY_NAME)
    return text


async def _provider(
    session: AsyncSession, people: _People, demo: DemoProvider
) -> tuple[Provider, dict[str, object]]:
    """One provider with its own organization and owner."""
    user, login = await people.ensure(email=demo.email, name=f"{demo.name} owner")
    organization = await _organization(
        session, user, slug=demo.slug, name=demo.name, kind=OrganizationKind.PROVIDER
    )
    provider = await provider_of(session, organization.id) or await create_provider(
        session,
        organization_id=organization.id,
        slug=demo.slug,
        name=demo.name,
        state=ProviderState.ACTIVE,
    )
    return provider, login | {"provider_id": show(Prefix.PROVIDER, provider.id)}


async def _offer(
    session: AsyncSession,
    demo: DemoProvider,
    provider: Provider,
    *,
    model: DemoModel,
    revision: ModelRevision,
) -> None:
    """The provider's offer of the revision, unless it has one: asks that were changed since stay."""
    if any(offer.revision_id == revision.id for offer in await offers_of(session, provider.id)):
        return
    await open_offer(
        session,
        provider_id=provider.id,
        revision_id=revision.id,
        ask_prompt_nano_usd=None,
        ask_completion_nano_usd=None,
        asks=model.asks(demo.ask_basis_points),
    )


async def _join_token(
    session: AsyncSession, pool: Pool, *, name: str, provider: Provider | None
) -> str | None:
    """A token for the node `name`, or for the controller when there is no provider; None when it has enrolled."""
    enrolled = await session.scalar(
        select(Node.id).where(Node.pool_id == pool.id, Node.name == name, Node.revoked_at.is_(None))
    )
    if enrolled is not None:
        return None
    _, text = await create_join_token(
        session,
        pool_id=pool.id,
        provider_id=provider.id if provider else None,
        role=NodeRole.NODE if provider else NodeRole.CONTROLLER,
        user_id=None,
    )
    return text


def _write(
    credentials: Path, document: dict[str, object], join_tokens: Path, joins: dict[str, str | None]
) -> None:
    """Write the files; the token of a node that has enrolled is taken away."""
    write_secret(credentials, json.dumps(document, indent=2) + "\n")
    join_tokens.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in joins.items():
        if text is None:
            (join_tokens / name).unlink(missing_ok=True)
        else:
            write_secret(join_tokens / name, text)
