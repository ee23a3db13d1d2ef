"""`raymart serve-api`: the API process."""

from typing import Annotated

import typer

from raymart_graphql.operator.running import control_settings
from raymart_graphql.operator.serving import serve_api


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; RAYMART_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port; RAYMART_PORT.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Processes on the port, one without this; all serve on every node; RAYMART_WORKERS.",
        ),
    ] = None,
) -> None:
    """Serve the API until SIGTERM: gateway, GraphQL and the nodes' links."""
    settings = control_settings()
    chosen = {
        "host": host or settings.host,
        "port": port or settings.port,
        "workers": workers or settings.workers,
    }
    serve_api(settings.model_copy(update=chosen))
