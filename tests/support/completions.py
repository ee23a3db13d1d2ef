"""Chat completions over GraphQL: how a test asks for one, and what it leaves behind."""

import asyncio
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from raymart_billing import ledger
from raymart_core.ids import Prefix, parse
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.metering.models import Request
from support.api_server import ASK_COMPLETION, ASK_PROMPT, Api, Seller, Tenant

STREAM = """
subscription ($input: ChatCompletionInput!) {
  chatCompletion(input: $input) {
    requestId delta finishReason attempts
    usage { tokensPrompt tokensCompletion }
    cost { amount }
    provider { slug }
    userErrors { code message }
  }
}
"""


def chat(seller: Seller, **changes: Any) -> dict[str, Any]:
    return {
        "model": seller.model_slug,
        "messages": [{"role": "USER", "content": "hello"}],
        "maxTokens": 4,
    } | changes


def price(tokens_prompt: int, tokens_completion: int) -> Decimal:
    return Decimal(tokens_prompt * ASK_PROMPT + tokens_completion * ASK_COMPLETION).scaleb(-9)


async def balance(api: Api, tenant: Tenant) -> ledger.Balance:
    async with session_scope(api.services.sessions) as session:
        return await ledger.balance(session, tenant.organization_id)


async def request_row(api: Api, request_id: str) -> Request:
    async with session_scope(api.services.sessions) as session:
        return await session.get_one(Request, parse(Prefix.REQUEST, request_id))


async def rows_of(api: Api, tenant: Tenant) -> list[Request]:
    async with session_scope(api.services.sessions) as session:
        found = await session.scalars(
            select(Request).where(Request.organization_id == tenant.organization_id)
        )
        return list(found)


async def until_settled(api: Api, tenant: Tenant) -> ledger.Balance:
    """The poster runs just after the answer: wait until nothing is held."""
    async with asyncio.timeout(30):
        while (found := await balance(api, tenant)).pending:
            await asyncio.sleep(0.02)
    return found
