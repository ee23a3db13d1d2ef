"""`raymart model`: models, their revisions and aliases; import from elsewhere is in `import_command`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.ids import Prefix, show
from raymart_graphql.operator.arguments import organization_id
from raymart_graphql.operator.import_command import import_model
from raymart_graphql.operator.listing import Output, print_rows
from raymart_graphql.operator.running import control_settings, database_settings, with_database
from raymart_marketplace.catalog import aliases, revisions, sharing
from raymart_marketplace.catalog.model_keys import ModelKeys, rewrap
from raymart_marketplace.catalog.models import Model, ModelRevision
from raymart_marketplace.catalog.naming import LATEST
from raymart_marketplace.catalog.reference import read_reference
from raymart_marketplace.catalog.registry_models import Access, ModelAlias
from raymart_marketplace.catalog.service import model_by_slug
from raymart_marketplace.db.session import Sessions, session_scope

LISTING_MAX = 1_000
"""Rows that a listing prints."""
Result = TypeVar("Result")

OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
RevisionArgument = Annotated[str, typer.Argument(help="owner/name@alias or owner/name@sha256:<hex>.")]
ModelArgument = Annotated[str, typer.Argument(help="Slug of the model, such as raymart/demo-chat.")]
AliasOption = Annotated[str, typer.Option("--alias", help="Which alias.")]
FormatOption = Annotated[
    str | None,
    typer.Option("--quantization", help="Only of this number format, such as q8_0; of each unless given."),
]
ReasonOption = Annotated[str, typer.Option(help="Why; kept in the alias's history.")]

model = typer.Typer(no_args_is_help=True)
model.command("import")(import_model)


@model.command("list")
def model_list(output: OutputOption = Output.TABLE) -> None:
    """List model revisions, with the aliases that name them."""

    async def rows(session: AsyncSession) -> Sequence[dict[str, object]]:
        named: dict[object, list[str]] = {}
        for alias in await session.scalars(select(ModelAlias).order_by(ModelAlias.name)):
            named.setdefault(alias.revision_id, []).append(alias.name)
        statement = (
            select(Model, ModelRevision)
            .join(ModelRevision, ModelRevision.model_id == Model.id)
            .order_by(Model.slug, ModelRevision.id)
            .limit(LISTING_MAX)
        )
        return [
            _row(found, revision, named.get(revision.id, []))
            for found, revision in await session.execute(statement)
        ]

    columns = (
        "model", "visibility", "revision", "engine", "quantization", "context_length", "size_bytes", "state", "aliases",
    )  # fmt: skip
    print_rows(_with_session(rows), columns=columns, output=output)


@model.command("show")
def model_show(
    *,
    slug: ModelArgument,
    output: OutputOption = Output.TABLE,
    history: Annotated[
        bool, typer.Option(help="What its aliases named, newest first, instead of its files.")
    ] = False,
) -> None:
    """Show the files of a revision (`owner/name@...`), or what a model's aliases named."""
    columns: tuple[str, ...]
    if history:
        columns = ("at", "alias", "quantization", "change", "before", "after", "reason")
        print_rows(_with_session(lambda session: _history(session, slug)), columns=columns, output=output)
        return
    columns = ("path", "bytes", "sha256")
    print_rows(_with_session(lambda session: _files(session, slug)), columns=columns, output=output)


@model.command("publish")
def model_publish(revision: RevisionArgument, reason: ReasonOption = "") -> None:
    """Let a revision be offered and served, and point `latest` at it."""

    async def publish(session: AsyncSession) -> None:
        found = await revisions.named_revision(session, read_reference(revision))
        await aliases.publish_as_latest(session, revision_id=found.id, reason=reason)

    _with_session(publish)
    typer.echo(f"{revision} is published")


@model.command("deprecate")
def model_deprecate(revision: RevisionArgument) -> None:
    """Serve a revision where it runs, and place it nowhere anew."""
    _change(revision, revisions.deprecate)
    typer.echo(f"{revision} is deprecated")


@model.command("withdraw")
def model_withdraw(revision: RevisionArgument) -> None:
    """Serve a revision no more, for good; refused while an alias names it."""
    _change(revision, revisions.withdraw)
    typer.echo(f"{revision} is withdrawn")


@model.command("alias")
def model_alias(
    revision: RevisionArgument,
    name: Annotated[str, typer.Argument(help="Such as stable.")],
    reason: ReasonOption = "",
) -> None:
    """Let an alias name a published revision."""

    async def point(session: AsyncSession) -> None:
        found = await revisions.named_revision(session, read_reference(revision))
        await aliases.point_alias(
            session, model_id=found.model_id, name=name, revision_id=found.id, reason=reason
        )

    _with_session(point)
    typer.echo(f"{name} names {revision}")


@model.command("unalias")
def model_unalias(slug: ModelArgument, name: AliasOption, quantization: FormatOption = None) -> None:
    """Let an alias name nothing; its history stays."""

    async def remove(session: AsyncSession) -> None:
        found = await model_by_slug(session, slug)
        await aliases.remove_alias(session, model_id=found.id, name=name, quantization=quantization)

    _with_session(remove)
    typer.echo(f"{name} names nothing of {slug}")


@model.command("rollback")
def model_rollback(
    slug: ModelArgument,
    name: AliasOption = LATEST,
    quantization: FormatOption = None,
    reason: ReasonOption = "",
) -> None:
    """Let an alias name again what it named before; repeated, it goes further back."""

    async def roll_back(session: AsyncSession) -> Sequence[aliases.AliasMove]:
        found = await model_by_slug(session, slug)
        return await aliases.roll_back(
            session, model_id=found.id, name=name, quantization=quantization, reason=reason
        )

    for move in _with_session(roll_back):
        typer.echo(f"{name} names {move.after.digest} ({move.quantization}) again")


@model.command("share")
def model_share(
    slug: ModelArgument,
    organization: Annotated[str, typer.Option(help="Slug or id of the organization.")],
    access: Annotated[
        Access, typer.Option(help="use: call it; host: serve it too, its machines get the keys.")
    ] = Access.USE,
) -> None:
    """Let an organization use, or serve as well, a private model."""

    async def share(session: AsyncSession) -> None:
        found = await model_by_slug(session, slug)
        other = await organization_id(session, organization)
        await sharing.share_model(session, model=found, organization_id=other, access=access, actor_id=None)

    _with_session(share)
    typer.echo(f"{slug} is shared with {organization}")


@model.command("unshare")
def model_unshare(
    slug: ModelArgument,
    organization: Annotated[str, typer.Option(help="Slug or id of the organization.")],
) -> None:
    """Let an organization neither use nor serve a private model any more."""

    async def end(session: AsyncSession) -> None:
        found = await model_by_slug(session, slug)
        other = await organization_id(session, organization)
        await sharing.end_share(session, model_id=found.id, organization_id=other)

    _with_session(end)
    typer.echo(f"{slug} is not shared with {organization}")


@model.command("rewrap")
def model_rewrap() -> None:
    """Wrap the data keys of sealed files with the first key of RAYMART_MODEL_KEY; the files stay as they are."""
    settings = control_settings()
    keys = ModelKeys([key.get_secret_value().encode() for key in settings.model_key])

    async def rewrap_all(sessions: Sessions) -> int:
        total, after = 0, None
        while True:
            async with session_scope(sessions) as session:
                count, after = await rewrap(session, keys, after_id=after)
            total += count
            if after is None:
                return total

    typer.echo(f"{with_database(settings.database_url, rewrap_all)} data keys are wrapped anew")


def _row(found: Model, revision: ModelRevision, named: Sequence[str]) -> dict[str, object]:
    return {
        "model": found.slug,
        "visibility": found.visibility.value,
        "revision": revision.digest,
        "engine": revision.engine,
        "quantization": revision.quantization,
        "context_length": revision.context_length,
        "size_bytes": revision.size_bytes,
        "state": revision.state.value,
        "aliases": " ".join(named),
    }


async def _files(session: AsyncSession, text: str) -> Sequence[dict[str, object]]:
    revision = await revisions.named_revision(session, read_reference(text))
    manifest = revisions.manifest_of(revision)
    if manifest is None:
        return [{"path": revision.source, "bytes": None, "sha256": revision.sha256}]
    return [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in manifest.files]


async def _history(session: AsyncSession, text: str) -> Sequence[dict[str, object]]:
    found = await model_by_slug(session, read_reference(text).slug)
    changes = await aliases.alias_history(session, model_id=found.id)
    return [
        {
            "at": change.created_at,
            "alias": change.name,
            "quantization": change.quantization,
            "change": change.change.value,
            "before": change.before_id and show(Prefix.REVISION, change.before_id),
            "after": change.after_id and show(Prefix.REVISION, change.after_id),
            "reason": change.reason,
        }
        for change in changes
    ]


def _change(revision: str, change: Callable[..., Awaitable[ModelRevision]]) -> None:
    async def run(session: AsyncSession) -> None:
        found = await revisions.named_revision(session, read_reference(revision))
        await change(session, revision_id=found.id)

    _with_session(run)


def _with_session(work: Callable[[AsyncSession], Awaitable[Result]]) -> Result:
    """Run `work` in one transaction."""

    async def run(sessions: Sessions) -> Result:
        async with session_scope(sessions) as session:
            return await work(session)

    return with_database(database_settings().database_url, run)
