"""A top-up in USDC: a QR code's URL, paid by a wallet that nobody knew, credited once it is final."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymart_core.money import Money
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import GraphQLClient
from raymart_local.logs import Console

AMOUNT_USDC = "1.25"
PAID_WITHIN_S = 75.0
_POLL_S = 0.5

_CREATE = """
mutation($input: CreateUsdcTopUpInput!) { createUsdcTopUp(input: $input) {
  userErrors { code message } topUp { reference url } } }
"""
_TOP_UPS = """
query($id: ID!) { organization(id: $id) { usdcTopUps(first: 1) { nodes {
  reference status deposits { signature state amount { amount } explorerUrl } } } } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """A payment that was credited."""

    asked: Money
    deposits: int
    """How many payments were found for the URL."""
    credited: Money
    signature: str
    """By the wallet that paid."""
    deposit_signature: str
    """By the scanner that found it."""


class Payer:
    """Pays the customer's balance up in USDC on the chain that `chain` describes."""

    def __init__(
        self, customer: GraphQLClient, *, organization_id: str, chain: Path, console: Console
    ) -> None:
        self._customer = customer
        self._organization_id = organization_id
        self._rpc_url = str(json.loads(chain.read_text())["rpc_url"])
        self._console = console

    async def pay(self) -> str:
        """Ask for a URL and pay it, as a person scans it; returns the signature. It is credited later."""
        wanted = {
            "organizationId": self._organization_id,
            "amount": AMOUNT_USDC,
            "idempotencyKey": "demo-top-up",
        }
        url = (await self._customer.run(_CREATE, input=wanted))["createUsdcTopUp"]["topUp"]["url"]
        self._console.say("demo", f"the customer scans {url}")
        payer = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "raymart_billing.solana.devchain.pay",
            self._rpc_url,
            url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(payer.communicate(), PAID_WITHIN_S)
        if payer.returncode != 0:
            raise DemoFailed(f"the wallet could not pay: {errors.decode().strip()}")
        return output.decode().strip()

    async def credited(self, signature: str) -> TopUp:
        """The top-up once it is on the balance. Raises: DemoFailed."""
        until = time.monotonic() + PAID_WITHIN_S
        while True:
            top_up = await self._look()
            if top_up["status"] == "PAID":
                break
            if time.monotonic() > until:
                raise DemoFailed(f"payment {signature} was not credited within {PAID_WITHIN_S:g} s: {top_up}")
            await asyncio.sleep(_POLL_S)
        deposits = top_up["deposits"]
        credited = sum((_usd(one) for one in deposits if one["state"] == "CREDITED"), Money(0))
        self._console.say("demo", f"{credited} are credited: {deposits[0]['explorerUrl']}")
        return TopUp(
            asked=Money.parse(AMOUNT_USDC),
            deposits=len(deposits),
            credited=credited,
            signature=signature,
            deposit_signature=deposits[0]["signature"],
        )

    async def _look(self) -> Mapping[str, Any]:
        found = await self._customer.run(_TOP_UPS, id=self._organization_id)
        [top_up] = found["organization"]["usdcTopUps"]["nodes"]
        return dict(top_up)


def _usd(deposit: Mapping[str, Any]) -> Money:
    """A USDC is a dollar."""
    return Money.parse(deposit["amount"]["amount"])
