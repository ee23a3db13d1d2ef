"""`raymart placements`: what should run where, what does, and what no machine takes."""

from collections.abc import Sequence
from typing import Annotated

import typer
from sqlalchemy import select

from raymart_core.ids import Prefix, show
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import database_settings, with_database
from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.supply.models import Node, Offer, Placement, Provider
from raymart_marketplace.supply.planning.standing import standing_of
from raymart_marketplace.supply.planning.tables import ModelPlacement, PlacementRejection

LISTING_MAX = 1_000
"""Rows that a listing prints."""

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
ModelOption = Annotated[str | None, typer.Option(help="Slug of a model; all without.")]

placements = typer.Typer(no_args_is_help=True)


@placements.command("list")
def placements_list(model: ModelOption = None, output: OutputOption = Output.TABLE) -> None:
    """List what should run on which machine, and how it stands."""
    statement = (
        select(Placement, Model.slug, Node.name, Provider.slug)
        .join(Node, Node.id == Placement.node_id)
        .join(Provider, Provider.id == Node.provider_id)
        .join(ModelRevision, ModelRevision.id == Placement.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .where(Placement.desired.is_(True))
        .order_by(Placement.id)
        .limit(LISTING_MAX)
    )
    if model is not None:
        statement = statement.where(Model.slug == model)

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "id": show(Prefix.PLACEMENT, row.id),
                    "model": slug,
                    "node": node,
                    "provider": provider,
                    "state": row.state.value,
                    "replicas": f"{row.replicas_running} of {row.replicas_min}..{row.replicas_max}",
                    "cold_start_ms": row.cold_start_ms,
                    "reason": row.reason,
                }
                for row, slug, node, provider in await session.execute(statement)
            ]

    columns = ("id", "model", "node", "provider", "state", "replicas", "cold_start_ms", "reason")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@placements.command("rejected")
def placements_rejected(model: ModelOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the machines on which open offers are not placed, and why."""
    statement = (
        select(PlacementRejection, Model.slug, Node.name, Provider.slug)
        .join(Offer, Offer.id == PlacementRejection.offer_id)
        .join(Provider, Provider.id == Offer.provider_id)
        .join(ModelRevision, ModelRevision.id == Offer.revision_id)
        .join(Model, Model.id == ModelRevision.model_id)
        .outerjoin(Node, Node.id == PlacementRejection.node_id)
        .order_by(PlacementRejection.id)
        .limit(LISTING_MAX)
    )
    if model is not None:
        statement = statement.where(Model.slug == model)

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "model": slug,
                    "provider": provider,
                    "node": node,
                    "reason": row.misfit.value,
                    "detail": row.detail,
                    "since": row.created_at,
                }
                for row, slug, node, provider in await session.execute(statement)
            ]

    columns = ("model", "provider", "node", "reason", "detail", "since")
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)


@placements.command("models")
def placements_models(output: OutputOption = Output.TABLE) -> None:
    """List how every model stands: served, starting, asleep, or that no node matches."""
    statement = (
        select(ModelPlacement, Model.slug)
        .join(Model, Model.id == ModelPlacement.model_id)
        .order_by(Model.slug)
        .limit(LISTING_MAX)
    )

    async def rows(sessions: Sessions) -> Sequence[dict[str, object]]:
        async with session_scope(sessions) as session:
            return [
                {
                    "model": slug,
                    "standing": standing_of(row).value,
                    "offers": row.offers,
                    "placements": row.placed,
                    "running": row.running,
                    "sleeping": row.sleeping,
                    "waiting": row.waiting,
                    "asked": row.asked,
                    "misfits": ", ".join(f"{name} {count}" for name, count in sorted(row.misfits.items())),
                }
                for row, slug in await session.execute(statement)
            ]

    columns = (
        "model", "standing", "offers", "placements", "running", "sleeping", "waiting", "asked", "misfits",
    )  # fmt: skip
    print_rows(with_database(database_settings().database_url, rows), columns=columns, output=output)
