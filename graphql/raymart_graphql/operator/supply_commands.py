"""`raymart node`, `raymart provider`, `raymart pool`: who serves, on which machines, and whether all is as it should be."""

from collections.abc import Sequence
from typing import Annotated

import typer
from sqlalchemy import select

from raymart_core.errors import InvalidRequest, NotFound
from raymart_core.ids import Prefix, parse, show
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import database_settings, with_database
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.drift import list_pools, pool_drift
from raymart_marketplace.supply.models import Node, NodeRole, Pool, Provider
from raymart_marketplace.supply.service import (
    JOIN_TOKEN_TTL_S_MAX,
    create_join_token,
    pool_by_slug,
    provider_by_slug,
    revoke_node,
)

LISTING_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]

node = typer.Typer(no_args_is_help=True)
provider = typer.Typer(no_args_is_help=True)
pool = typer.Typer(no_args_is_help=True)


@node.command("token")
def node_token(
    pool: Annotated[str, typer.Option(help="Slug of the pool.")],
    provider: Annotated[
        str | None, typer.Option(help="Slug of the provider; none for a house controller.")
    ] = None,
    role: Annotated[NodeRole, typer.Option(help="What the machine will be.")] = NodeRole.NODE,
    ttl_s: Annotated[int, typer.Option(min=1, max=JOIN_TOKEN_TTL_S_MAX, help="Life in seconds.")] = 3_600,
) -> None:
    """Print a one-time token for `raymart-provider join`."""

    async def create(sessions: Sessions) -> str:
        async with session_scope(sessions) as session:
            found = await pool_by_slug(session, pool)
            if found is None:
                raise NotFound(f"there is no pool {pool!r}")
            owner = await provider_by_slug(session, provider) if provider else None
            if provider and owner is None:
                raise NotFound(f"there is no provider {provider!r}; `raymart provider list` shows them")
            _, text = await create_join_token(
                session,
                pool_id=found.id,
                provider_id=owner.id if owner else None,
                role=role,
                user_id=None,
                ttl_s=ttl_s,
            )
            return text

    typer.echo(with_database(database_settings().database_url, create))


@node.command("list")
def node_list(output: OutputOption = Output.TABLE) -> None:
    """List nodes and controllers, revoked ones too."""
    statement = (
        select(Node, Pool.slug, Provider.slug)
        .join(Pool, Pool.id == Node.pool_id)
        .outerjoin(Provider, Provider.id == Node.provider_id)
        .order_by(Node.id)
        .limit(LISTING_MAX)
    )

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "id": show(Prefix.NODE, found.id),
                    "name": found.name,
                    "role": found.role.value,
                    "pool": pool_slug,
                    "provider": provider_slug,
                    "state": found.state.value,
                    "last_seen_at": found.last_seen_at,
                }
                for found, pool_slug, provider_slug in await session.execute(statement)
            ]

    columns = ("id", "name", "role", "pool", "provider", "state", "last_seen_at")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@node.command("revoke")
def node_revoke(node_id: Annotated[str, typer.Argument(help="Such as node_0199...")]) -> None:
    """End a node's key; its name and its machine may then enrol again."""
    try:
        parsed = parse(Prefix.NODE, node_id)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None

    async def revoke(sessions: Sessions) -> None:
        async with session_scope(sessions) as session:
            await revoke_node(session, node_id=parsed)

    with_database(database_settings().database_url, revoke)
    typer.echo(f"{node_id} revoked")


@provider.command("list")
def provider_list(output: OutputOption = Output.TABLE) -> None:
    """List providers."""

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            found = await session.scalars(select(Provider).order_by(Provider.id).limit(LISTING_MAX))
            return [
                {
                    "id": show(Prefix.PROVIDER, each.id),
                    "slug": each.slug,
                    "name": each.name,
                    "state": each.state.value,
                }
                for each in found
            ]

    columns = ("id", "slug", "name", "state")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@pool.command("list")
def pool_list(output: OutputOption = Output.TABLE) -> None:
    """List pools: who controls each, how many machines are linked, and how far it is from what is wanted."""

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "slug": found.slug,
                    "kind": found.kind.value,
                    "region": found.region,
                    "controller": found.controller,
                    "nodes": found.nodes_linked,
                    "drift": len(found.drift),
                    "first": f"{found.drift[0].kind.value}: {found.drift[0].subject}" if found.drift else "",
                }
                for found in await list_pools(session, limit=LISTING_MAX)
            ]

    columns = ("slug", "kind", "region", "controller", "nodes", "drift", "first")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@pool.command("drift")
def pool_drift_list(
    slug: Annotated[str, typer.Argument(help="Slug of the pool.")], output: OutputOption = Output.TABLE
) -> None:
    """List where a pool is not as the marketplace wants it."""

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            found = await pool_by_slug(session, slug)
            if found is None:
                raise NotFound(f"there is no pool {slug!r}; `raymart pool list` shows them")
            return [
                {
                    "kind": drift.kind.value,
                    "subject": drift.subject,
                    "node": drift.node,
                    "revision": drift.revision,
                    "reason": drift.reason,
                }
                for drift in await pool_drift(session, found.id)
            ]

    columns = ("kind", "subject", "node", "revision", "reason")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)
