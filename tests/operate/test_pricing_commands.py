"""`raymart price`."""

import json

import pytest

from raymart_marketplace.catalog.models import Model
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import Provider
from raymart_marketplace.supply.service import open_offer
from support.command_line import failed, run
from support.market import make_provider, make_revision


@pytest.fixture
async def market(sessions: Sessions) -> tuple[str, Provider]:
    """A model's slug, and a provider who offers it at the rate card's prices."""
    async with session_scope(sessions) as session:
        revision, provider = await make_revision(session), await make_provider(session)
        await open_offer(
            session,
            provider_id=provider.id,
            revision_id=revision.id,
            ask_prompt_nano_usd=None,
            ask_completion_nano_usd=None,
        )
        return (await session.get_one(Model, revision.model_id)).slug, provider


def listed(url: str, *arguments: str) -> list[dict]:
    return json.loads(run(url, "price", *arguments, "-o", "json").stdout)


class TestPrice:
    async def test_a_card_is_published_listed_and_quoted(self, database_url, market):
        model, provider = market
        bounds = ("--tokens-prompt", "10", "--tokens-completion", "20")
        prices = ("--price", "token.prompt=0.00000005", "--price", "token.completion=0.00000015")
        done = run(database_url, "price", "publish", model, *prices)
        assert done.stdout.startswith(f"{model}: version 1 from ")
        assert [
            (row["unit"], row["nano_usd"], row["state"])
            for row in listed(database_url, "cards", "--model", model)
        ] == [
            ("token.completion", 150, "published"),
            ("token.prompt", 50, "published"),
        ]
        assert [
            (row["provider"], row["amount_nano_usd"], row["unit"], row["line_nano_usd"])
            for row in listed(database_url, "quote", model, *bounds)
        ] == [
            (provider.slug, 3_500, "token.prompt", 500),
            (provider.slug, 3_500, "token.completion", 3_000),
        ]

    async def test_pictures_are_quoted_by_their_pixel_steps(self, database_url, market):
        model, provider = market
        card = ("image.megapixel_step=0.000002", "token.prompt=0", "token.completion=0")
        run(database_url, "price", "publish", model, *(word for line in card for word in ("--price", line)))
        [line] = listed(database_url, "quote", model, "--pixel-steps", str(2 * 64 * 64 * 20))
        # 327.68 nano-USD are rounded down.
        assert (line["provider"], line["unit"], line["amount_nano_usd"]) == (
            provider.slug, "image.megapixel_step", 327,
        )  # fmt: skip

    async def test_a_cap_is_set_and_listed(self, database_url, market):
        model, _ = market
        scope = ("cap", "request", "--model", model, "--reason", "a test")
        done = run(database_url, "price", *scope, "--max", "0.0001")
        assert done.stdout == f"request of {model}: at most 0.000100000 USD\n"
        [cap] = [row for row in listed(database_url, "caps") if row["model"] == model]
        assert (cap["max_nano_usd"], cap["reason"]) == (100_000, "a test")

    async def test_a_fee_is_set_and_listed(self, database_url, market):
        model, provider = market
        scope = ("--provider", provider.slug, "--model", model, "--reason", "a deal")
        assert "750 basis points" in run(database_url, "price", "fee", "750", *scope).stdout
        [fee] = [row for row in listed(database_url, "fees") if row["model"] == model]
        assert (fee["basis_points"], fee["provider"], fee["reason"]) == (750, provider.slug, "a deal")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (
                ("publish", "MODEL", "--price", "token.promt=1"),
                "'token.promt' is no unit; use one of token.prompt",
            ),
            (
                ("fee", "10001", "--reason", "x", "--model", "MODEL"),
                "10001 basis points is outside 0 to 10000",
            ),
        ],
    )
    async def test_a_mistake_is_one_line_with_the_value(self, database_url, market, arguments, sentence):
        model, _ = market
        given = [model if argument == "MODEL" else argument for argument in arguments]
        assert sentence in failed(run(database_url, "price", *given))
