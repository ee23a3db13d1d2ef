"""`raymart seed`: the demo's accounts, for `raymart up`."""

from pathlib import Path
from typing import Annotated

import typer

from raymart_billing.payout_wallets import WalletRules
from raymart_graphql.operator.running import control_settings, with_database
from raymart_graphql.operator.signing import access_tokens
from raymart_graphql.seed import seed
from raymart_graphql.seed_wallets import DemoWallets
from raymart_marketplace.accounts.tokens import TTL_S_MAX
from raymart_marketplace.accounts.wallet_challenges import make_wallet_challenges
from raymart_marketplace.db.session import Sessions
from raymart_marketplace.shared_state import make_redis


def seed_demo(
    output: Annotated[Path, typer.Option(help="credentials.json to write, mode 0600.")],
    base_url: Annotated[str, typer.Option(help="Where the API will be.")],
    join_tokens: Annotated[Path, typer.Option(help="Folder for the nodes' one-time tokens.")],
    wallets: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the keypairs of providers' payout wallets; beside the tokens if left out."
        ),
    ] = None,
) -> None:
    """Make the demo's accounts, model, offers, credit and payout wallets; idempotent."""
    settings = control_settings()
    tokens = access_tokens(settings, ttl_s=TTL_S_MAX)

    async def run(sessions: Sessions) -> None:
        redis = make_redis(settings.redis_url)
        try:
            await seed(
                sessions,
                tokens,
                base_url=base_url,
                credentials=output,
                join_tokens=join_tokens,
                wallets=DemoWallets(
                    challenges=make_wallet_challenges(settings, redis),
                    rules=WalletRules.of(settings),
                    folder=wallets or join_tokens.parent / "wallets",
                ),
            )
        finally:
            await redis.aclose()

    with_database(settings.database_url, run)
    typer.echo(f"demo accounts are in {output}")
