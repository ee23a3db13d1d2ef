"""`raymart model import`: a model from elsewhere into the registry, with bars, going on where it was cut off."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from sqlalchemy.ext.asyncio import AsyncSession

from raymart_core.errors import InvalidRequest, Unavailable
from raymart_graphql.operator.arguments import organization_id
from raymart_graphql.operator.running import control_settings, with_database
from raymart_marketplace.catalog.aliases import publish_as_latest
from raymart_marketplace.catalog.artifacts import ArtifactStore
from raymart_marketplace.catalog.importing import (
    Imported,
    Importer,
    ImportPlan,
    SourceSettings,
    open_source,
)
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.objects import open_objects
from raymart_marketplace.settings import ControlSettings

LEFT_OUT_SHOWN_MAX = 20


def import_model(
    *,
    source: Annotated[
        str,
        typer.Argument(
            help="owner/name[@revision] on a Hugging Face hub, a folder, a .gguf file, s3://bucket/prefix."
        ),
    ],
    model: Annotated[str, typer.Option(help="Slug to give it, such as acme/llama-3.1-8b.")],
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    description: Annotated[str, typer.Option(help="What it is.")] = "",
    organization: Annotated[
        str | None, typer.Option(help="Make it this organization's private model, sealed at rest.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Engine, where the files do not say it.")] = None,
    quantization: Annotated[str | None, typer.Option(help="Number format, such as q8_0.")] = None,
    context_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens of prompt and completion.")
    ] = None,
    capability: Annotated[
        list[str] | None, typer.Option(help="Such as chat, image, embedding; may be repeated.")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(help="Of the engine, as name=value; may be repeated.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights.")] = None,
    publish: Annotated[bool, typer.Option(help="Publish it at once, as latest.")] = False,
    staging: Annotated[
        Path | None, typer.Option(help="Where files from afar are kept until they are stored.")
    ] = None,
) -> None:
    """Import a model as a draft. Run it again when it was cut off: it goes on."""
    settings = control_settings()
    folder = _staging(settings, staging)

    async def run(sessions: Sessions) -> Imported:
        keys = ModelKeys([key.get_secret_value().encode() for key in settings.model_key])
        if organization is not None and not keys.is_configured:
            raise Unavailable(
                "a private model is sealed at rest, and there is no key for it: set RAYMART_MODEL_KEY (`openssl rand -hex 32`)"
            )
        async with session_scope(sessions) as session:
            owner = None if organization is None else await organization_id(session, organization)
        plan = ImportPlan(
            slug=model,
            name=name,
            description=description,
            organization_id=owner,
            engine=engine,
            quantization=quantization,
            context_length=context_length,
            capabilities=tuple(capability or ()),
            licence=licence,
            parameters=_parameters(parameter or ()),
        )
        opened = open_source(source, _source_settings(settings))
        store = ArtifactStore(sessions, open_objects(settings), keys)
        try:
            with _Bars() as bars:
                imported = await Importer(sessions, store, staging=folder).run(opened, plan, bars)
        finally:
            await opened.close()
        if publish:
            async with session_scope(sessions) as session:
                await _publish(session, imported)
        return imported

    imported = with_database(settings.database_url, run)
    typer.echo(f"{model}@{imported.revision.digest}")
    if not publish and imported.revision.published_at is None:
        typer.echo(
            f"a draft; `raymart model publish {model}@{imported.revision.digest}` publishes it", err=True
        )


async def _publish(session: AsyncSession, imported: Imported) -> None:
    await publish_as_latest(session, revision_id=imported.revision.id)


def _staging(settings: ControlSettings, given: Path | None) -> Path:
    if given is not None:
        return given
    if settings.data_dir is None:
        raise InvalidRequest(
            "there is nowhere to keep files meanwhile: give --staging or set RAYMART_DATA_DIR"
        )
    return settings.data_dir / "imports"


def _source_settings(settings: ControlSettings) -> SourceSettings:
    """S3 sources are reached as our own store is."""
    secret = settings.objects_secret_access_key
    return SourceSettings(
        s3_endpoint=settings.objects_endpoint,
        s3_region=settings.objects_region,
        s3_access_key_id=settings.objects_access_key_id,
        s3_secret_access_key=None if secret is None else secret.get_secret_value(),
    )


def _parameters(texts: Sequence[str]) -> dict[str, str]:
    """Raises: InvalidRequest."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"{text!r} is no name=value", param="parameter")
        found[name] = value
    return found


class _Bars(AbstractContextManager["_Bars"]):
    """Bars on standard error: one for all, one for the file at hand."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=self._console,
        )
        self._all: TaskID | None = None
        self._current: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def found(self, *, files: int, size_bytes: int, left_out: tuple[tuple[str, str], ...]) -> None:
        """Begin the bar of all."""
        for path, reason in left_out[:LEFT_OUT_SHOWN_MAX]:
            self._console.print(f"left out {path}: {reason}", markup=False, highlight=False)
        if len(left_out) > LEFT_OUT_SHOWN_MAX:
            self._console.print(f"left out {len(left_out) - LEFT_OUT_SHOWN_MAX} more")
        self._all = self._progress.add_task(f"{files} files", total=size_bytes)

    def begin(self, path: str, *, stage: str, size_bytes: int) -> Callable[[int], None]:
        """Begin the bar of a file."""
        self._end_current()
        current = self._current = self._progress.add_task(f"  {stage} {path}", total=size_bytes)
        return lambda piece: self._progress.advance(current, piece)

    def done(self, path: str, *, size_bytes: int, was_there: bool) -> None:
        """Count the file."""
        self._end_current()
        self._console.print(f"{'was there' if was_there else 'stored'} {path}", markup=False, highlight=False)
        if self._all is not None:
            self._progress.advance(self._all, size_bytes)

    def _end_current(self) -> None:
        if self._current is not None:
            self._progress.remove_task(self._current)
            self._current = None
