"""What the marketplace wrote down about the demo, read back over GraphQL by those whom it concerns."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raymart_core.money import ZERO, Money
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import GraphQLClient

POSTED_WITHIN_S = 20.0
_POLL_S = 0.2
_PAGE = 100
MEGA = 1_000_000

_ORGANIZATION = """
query($id: ID!, $first: Int!, $after: String) { organization(id: $id) {
  balance { posted { amount } pending { amount } available { amount } }
  usageRecords(first: $first, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes { postedAt
      usage { tokensPrompt tokensCompletion } prices { prompt { amount } completion { amount } }
      lines { unit quantity price { amount } }
      amount { amount } providerAmount { amount } feeAmount { amount } exact provider { id slug } request { id } } } } }
"""
_EARNINGS = "query($id: ID!) { provider(id: $id) { slug name earnings { payable { amount } } } }"
_TRIAL_BALANCE = """
{ trialBalance { rows { kind debits { amount } credits { amount } balance { amount } }
  debits { amount } credits { amount } drift { amount } balanced } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One billed request."""

    request_id: str
    provider_id: str
    provider: str
    """Slug."""
    tokens_prompt: int
    tokens_completion: int
    price_prompt: Money
    price_completion: Money
    pixel_steps: int
    price_megapixel_step: Money
    amount: Money
    provider_amount: Money
    fee: Money
    exact: bool
    posted: bool

    @property
    def priced(self) -> Money:
        """Usage times prices, by our own arithmetic; each part is rounded down."""
        tokens = self.price_prompt * self.tokens_prompt + self.price_completion * self.tokens_completion
        return tokens + Money(self.price_megapixel_step.amount * self.pixel_steps // MEGA)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerBooks:
    """The customer's balance and all that was billed to them."""

    balance: Money
    pending: Money
    usage: Sequence[Usage]

    @property
    def spent(self) -> Money:
        """Sum of what was billed."""
        return sum((record.amount for record in self.usage), ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderBooks:
    """What a provider's own account says."""

    provider_id: str
    slug: str
    name: str
    earned: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalance:
    """The ledger's own proof."""

    balances: Mapping[str, Money]
    """Credits less debits, by kind of account."""
    debits: Money
    credits: Money
    drift: Money
    balanced: bool


async def posted_customer_books(
    graphql: GraphQLClient, *, organization_id: str, requests: int
) -> CustomerBooks:
    """The customer's books once the ledger has taken all `requests` and holds nothing any more. Raises: DemoFailed."""
    books = None
    try:
        async with asyncio.timeout(POSTED_WITHIN_S):
            while True:
                books = await customer_books(graphql, organization_id=organization_id)
                is_settled = all(record.posted for record in books.usage) and not books.pending
                if is_settled and len(books.usage) >= requests:
                    return books
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        seen = f"{len(books.usage)} of {requests} usage records, {books.pending} held" if books else "nothing"
        raise DemoFailed(f"the ledger had not taken all usage after {POSTED_WITHIN_S:g} s: {seen}") from None


async def customer_books(graphql: GraphQLClient, *, organization_id: str) -> CustomerBooks:
    """The customer's books as they are now."""
    usage: list[Usage] = []
    after: str | None = None
    while True:
        data = await graphql.run(_ORGANIZATION, id=organization_id, first=_PAGE, after=after)
        organization = data["organization"]
        page = organization["usageRecords"]
        usage += [_usage(node) for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            balance = organization["balance"]
            return CustomerBooks(
                balance=_money(balance["posted"]), pending=_money(balance["pending"]), usage=usage
            )
        after = page["pageInfo"]["endCursor"]


async def provider_books(graphql: GraphQLClient, *, provider_id: str) -> ProviderBooks:
    """A provider's earnings, as its owner sees them."""
    provider = (await graphql.run(_EARNINGS, id=provider_id))["provider"]
    return ProviderBooks(
        provider_id=provider_id,
        slug=provider["slug"],
        name=provider["name"],
        earned=_money(provider["earnings"]["payable"]),
    )


async def trial_balance(graphql: GraphQLClient) -> TrialBalance:
    """The trial balance, as an administrator sees it."""
    trial = (await graphql.run(_TRIAL_BALANCE))["trialBalance"]
    return TrialBalance(
        balances={row["kind"]: _money(row["balance"]) for row in trial["rows"]},
        debits=_money(trial["debits"]),
        credits=_money(trial["credits"]),
        drift=_money(trial["drift"]),
        balanced=trial["balanced"],
    )


def _usage(node: Mapping[str, Any]) -> Usage:
    steps = next((line for line in node["lines"] if line["unit"] == "IMAGE_MEGAPIXEL_STEP"), None)
    return Usage(
        request_id=node["request"]["id"],
        provider_id=node["provider"]["id"],
        provider=node["provider"]["slug"],
        tokens_prompt=node["usage"]["tokensPrompt"],
        tokens_completion=node["usage"]["tokensCompletion"],
        price_prompt=_money(node["prices"]["prompt"]),
        price_completion=_money(node["prices"]["completion"]),
        pixel_steps=0 if steps is None else int(steps["quantity"]),
        price_megapixel_step=ZERO if steps is None else _money(steps["price"]),
        amount=_money(node["amount"]),
        provider_amount=_money(node["providerAmount"]),
        fee=_money(node["feeAmount"]),
        exact=node["exact"],
        posted=node["postedAt"] is not None,
    )


def _money(node: Mapping[str, Any]) -> Money:
    return Money.parse(node["amount"])
