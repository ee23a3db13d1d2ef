"""`raymart seed`: the demo's accounts, for `raymart up`."""

from pathlib import Path
from typing import Annotated

import typer

from raymart_graphql.operator.running import control_settings, with_database
from raymart_graphql.operator.signing import access_tokens
from raymart_graphql.seed import seed
from raymart_marketplace.accounts.tokens import TTL_S_MAX
from raymart_marketplace.db.session import Sessions


def seed_demo(
    output: Annotated[Path, typer.Option(help="credentials.json to write, mode 0600.")],
    base_url: Annotated[str, typer.Option(help="Where the API will be.")],
    join_tokens: Annotated[Path, typer.Option(help="Folder for the nodes' one-time tokens.")],
) -> None:
    """Make the demo's accounts, model, offers and credit; idempotent."""
    settings = control_settings()
    tokens = access_tokens(settings, ttl_s=TTL_S_MAX)

    async def run(sessions: Sessions) -> None:
        await seed(sessions, tokens, base_url=base_url, credentials=output, join_tokens=join_tokens)

    with_database(settings.database_url, run)
    typer.echo(f"demo accounts are in {output}")
