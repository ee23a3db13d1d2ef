"""The story that the demo tells: credit, an API key, questions by every way to both providers, payouts, the books."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from raymart_core.money import Money
from raymart_local.demo.books import (
    customer_books,
    posted_customer_books,
    provider_books,
    trial_balance,
)
from raymart_local.demo.claims import Outcome
from raymart_local.demo.errors import DemoFailed
from raymart_local.demo.graphql import GraphQLClient
from raymart_local.demo.outage import KillMachine, Outage, Questions
from raymart_local.demo.payouts import Paymaster
from raymart_local.demo.pictures import Picture, PictureBuyer, save
from raymart_local.demo.purchase import Buyer, Purchase
from raymart_local.demo.top_up import Payer
from raymart_local.logs import Console

GRANT = Money.parse("2")

ANSWERS = (
    ("What is the capital of Norway?", "The capital of Norway is Oslo."),
    ("What is 7 + 5?", "7 + 5 = 12."),
    ("Repeat after me: hello world", "hello world"),
    ("Return JSON with name and age for Ada, 36.", '{"name": "Ada", "age": 36}'),
    ("What is a payout?", "A payout is the money sent to a provider for the work its machines have done."),
    ("ping", "pong"),
)
"""Questions with the one answer that the bundled model gives at temperature 0."""

_LOGIN = "mutation($input: LoginInput!) { login(input: $input) { userErrors { code message } token } }"
_GRANT = """
mutation($input: GrantCreditInput!) { grantCredit(input: $input) {
  userErrors { code message } transfer { amount { amount } } } }
"""
_PROJECTS = "{ viewer { organizations(first: 10) { nodes { id projects(first: 1) { nodes { id } } } } } }"
_SLUG = "query($id: ID!) { provider(id: $id) { slug } }"
_CREATE_KEY = """
mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) {
  userErrors { code message } secret apiKey { id prefix } } }
"""


class Story:
    """Tells the story to one running stack, whose demo accounts are in `credentials` and whose Solana `chain` describes."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        credentials: Path,
        chain: Path,
        pictures: Path,
        kill: KillMachine,
        console: Console,
    ) -> None:
        """`pictures` is the folder that pictures are saved in."""
        self._pictures = pictures
        self._kill = kill
        self._http = http
        self._chain = chain
        self._base_url = base_url
        self._accounts = json.loads(credentials.read_text())
        self._console = console
        self._anonymous = GraphQLClient(http, base_url=base_url)

    async def tell(self) -> Outcome:
        """Run the whole story. Raises: DemoFailed, when a step cannot be taken at all."""
        admin = await self._logged_in(self._accounts["admin"])
        customer = await self._logged_in(self._accounts["customer"])
        organization_id = self._accounts["customer"]["organization_id"]
        granted = await self._grant(admin, customer, organization_id)
        payer = Payer(customer, organization_id=organization_id, chain=self._chain, console=self._console)
        # Becomes final while the customer buys.
        signature = await payer.pay()
        buyer = await self._buyer(customer, organization_id)
        slugs = [
            await self._slug(buyer.graphql, account["provider_id"]) for account in self._accounts["providers"]
        ]
        purchases, wrong = await self._buy(buyer, slugs)
        pictures, saved = await self._buy_pictures(buyer, slugs)
        questions = Questions(buyer, [text for text, _ in ANSWERS], kill=self._kill, console=self._console)
        outage = await questions.ask()
        returning = asyncio.create_task(questions.back(outage), name="back")
        purchases, wrong = [*purchases, *outage.purchases], [*wrong, *_wrong(outage)]
        top_up = await payer.credited(signature)
        books = await posted_customer_books(
            customer,
            organization_id=organization_id,
            requests=len(purchases) + len(pictures) + 1 + len(outage.stream.resumed_at),
        )
        owners = [
            (account["provider_id"], await self._logged_in(account))
            for account in self._accounts["providers"]
        ]
        providers = [await provider_books(owner, provider_id=provider_id) for provider_id, owner in owners]
        paymaster = Paymaster(
            self._http,
            admin=admin,
            treasurer=await self._logged_in(self._accounts["treasurer"]),
            chain=self._chain,
            console=self._console,
        )
        paid = await paymaster.pay(owners)
        back_after_s = await returning
        return Outcome(
            outage=replace(outage, back_after_s=back_after_s),
            granted=granted,
            top_up=top_up,
            purchases=purchases,
            wrong_answers=wrong,
            pictures=pictures,
            saved=saved,
            customer=books,
            providers=providers,
            paid=paid,
            trial=await trial_balance(admin),
        )

    async def _logged_in(self, account: dict[str, Any]) -> GraphQLClient:
        login = {"email": account["email"], "password": account["password"]}
        token = (await self._anonymous.run(_LOGIN, input=login))["login"]["token"]
        return self._anonymous.authenticated_as(token)

    async def _grant(self, admin: GraphQLClient, customer: GraphQLClient, organization_id: str) -> Money:
        """Grant credit; returns all that the customer was ever granted, for nothing is spent yet."""
        before = (await customer_books(customer, organization_id=organization_id)).balance
        grant = {
            "organizationId": organization_id,
            "amount": f"{GRANT.decimal():f}",
            "idempotencyKey": "demo-grant",
        }
        await admin.run(_GRANT, input=grant)
        after = (await customer_books(customer, organization_id=organization_id)).balance
        if after != before + GRANT:
            raise DemoFailed(f"the balance is {after} after a grant of {GRANT} on {before}")
        self._console.say("demo", f"the administrator grants {GRANT}; the customer has {after}")
        return after

    async def _buyer(self, customer: GraphQLClient, organization_id: str) -> Buyer:
        organizations = (await customer.run(_PROJECTS))["viewer"]["organizations"]["nodes"]
        project = next(o for o in organizations if o["id"] == organization_id)["projects"]["nodes"][0]
        wanted = {"projectId": project["id"], "name": "raymart demo"}
        created = (await customer.run(_CREATE_KEY, input=wanted))["createApiKey"]
        self._console.say("demo", f"the customer makes the API key {created['apiKey']['prefix']}...")
        key = created["secret"]
        return Buyer(self._http, self._base_url, key, self._anonymous.authenticated_as(key))

    async def _buy(self, buyer: Buyer, slugs: Sequence[str]) -> tuple[Sequence[Purchase], Sequence[str]]:
        """Ask every question by every way; every second question goes to a chosen provider, the rest where it is best."""
        ways = (buyer.rest, buyer.rest_streamed, buyer.graphql_mutation, buyer.graphql_subscription)
        purchases: list[Purchase] = []
        wrong: list[str] = []
        for number, (question, answer) in enumerate(ANSWERS):
            for turn, way in enumerate(ways):
                wishes = ((), (slugs[0],), (slugs[1],))
                only = wishes[(number + turn) % len(wishes)]
                purchase = await way(question, only=only)
                purchases.append(purchase)
                if purchase.text.strip() != answer:
                    wrong.append(f"{purchase.way} by {purchase.provider}: {question!r} -> {purchase.text!r}")
                if only and purchase.provider not in only:
                    wrong.append(f"{purchase.way}: {purchase.provider} served what only {only[0]} should")
            self._console.say("demo", f"{question}  ->  {purchases[-1].text.strip()}")
        return purchases, wrong

    async def _buy_pictures(self, buyer: Buyer, slugs: Sequence[str]) -> tuple[Sequence[Picture], Path]:
        """Buy pictures by every way and save them; the path of the first."""
        pictures = await PictureBuyer(buyer).all_ways(slugs)
        saved = await save(pictures, self._pictures)
        for picture in pictures:
            self._console.say("demo", f"{picture.wish.prompt}  ->  {picture.size} by {picture.provider}")
        return pictures, saved

    async def _slug(self, graphql: GraphQLClient, provider_id: str) -> str:
        return str((await graphql.run(_SLUG, id=provider_id))["provider"]["slug"])


def _wrong(outage: Outage) -> Sequence[str]:
    """Answers that are none of the known ones."""
    known = {answer for _, answer in ANSWERS}
    return [f"{one.provider}: {one.text!r}" for one in outage.purchases if one.text.strip() not in known]
