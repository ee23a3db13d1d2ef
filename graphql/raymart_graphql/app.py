"""The composition root of the control plane: settings in, ASGI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from fastapi import FastAPI
from sqlalchemy.orm import configure_mappers
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

import raymart_graphql.without_extras  # noqa: F401 - first, see there
from raymart_core.wire.link import LINK_PATH
from raymart_graphql.api import Api
from raymart_graphql.audit_files import audit_routes
from raymart_graphql.billing_documents import document_routes
from raymart_graphql.health import health_routes
from raymart_graphql.ide import asset_routes
from raymart_graphql.key_route import KEY_PATH, KeyRoute
from raymart_graphql.oidc_routes import oidc_routes
from raymart_graphql.origins import EXPOSED_HEADERS, open_to_pages
from raymart_graphql.privacy_files import export_routes
from raymart_graphql.rest.docs import docs_routes
from raymart_graphql.rest.failures import handle_failures
from raymart_graphql.rest.operations import operations_router
from raymart_graphql.rest.worker import worker_router
from raymart_graphql.router import GraphQLEndpoint
from raymart_graphql.schema import shared_schema
from raymart_graphql.services import Services, build_services, running
from raymart_graphql.top_up_codes import top_up_code_routes
from raymart_graphql.webhooks import webhook_routes
from raymart_marketplace.gateway.collector import rare_collections
from raymart_marketplace.gateway.generations import GENERATION_PATH, GenerationReadRoute
from raymart_marketplace.gateway.images.routes import openai_image_routes, sdapi_routes
from raymart_marketplace.gateway.routes import gateway_routes
from raymart_marketplace.gateway.vectors.routes import vector_routes
from raymart_marketplace.objects import object_routes
from raymart_marketplace.settings import ControlSettings
from raymart_marketplace.supply.siblings import Meetings

GRAPHQL_PATH = "/graphql"


def create_app(settings: ControlSettings | None = None, *, meetings: Meetings | None = None) -> FastAPI:
    """The API: gateway, link, GraphQL, REST for machines, health, webhooks. A factory for uvicorn; without `settings` they are read from the environment.

    `meetings` leads to the other processes of the same `serve-api`. `app.state.services` holds the services, which run while the application's lifespan does.
    """
    if settings is None:
        settings = ControlSettings()  # type: ignore[call-arg]  # the values come from the environment
    services = build_services(settings, meetings=meetings)
    app = Api(
        title="Raymart",
        routes=[
            *open_to_pages([*_gateway(services), *_sdapi(services)], origins=settings.allowed_origins),
            *_link(services),
            *_graphql(services),
            *document_routes(services),
            *top_up_code_routes(services),
            *audit_routes(services),
            *export_routes(services),
            *object_routes(services.objects),
            *health_routes(services),
            *webhook_routes(services),
            *oidc_routes(services),
        ],
        lifespan=_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    app.include_router(worker_router(services))
    app.include_router(operations_router(services))
    app.routes.extend(docs_routes(app))
    handle_failures(app)
    return app


def prepare(settings: ControlSettings) -> None:
    """Make what all apps of this process and of its forks share, so that it is made once and in memory once.

    An app itself cannot be shared: each has a gateway's identity, by which it leases credit. One is made and dropped,
    because most of what the libraries keep of it is kept by type. Opens nothing (`build_services`).
    """
    import_module("raymart_billing.work.broker")  # Else each would import it for itself, with its first hint.
    configure_mappers()
    create_app(settings)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with running(app.state.services):
        with rare_collections():
            yield


def _gateway(services: Services) -> list[BaseRoute]:
    """The hot path, matched before all else."""
    return list(
        gateway_routes(
            inference=services.inference,
            authenticator=services.authenticator,
            directory=services.directory,
            models=services.models,
            body_bytes_max=services.settings.body_bytes_max,
            more=[
                *vector_routes(
                    inference=services.vectors,
                    authenticator=services.authenticator,
                    body_bytes_max=services.settings.body_bytes_max,
                ),
                *openai_image_routes(
                    images=services.images,
                    authenticator=services.authenticator,
                    objects=services.objects,
                    body_bytes_max=services.settings.image_body_bytes_max,
                    url_ttl_s=services.settings.images_ttl_s,
                ),
                Route(
                    GENERATION_PATH,
                    GenerationReadRoute(services.authenticator, services.sessions),
                    name="generation",
                ),
                Route(
                    KEY_PATH,
                    KeyRoute(services.authenticator, services.sessions, services.limit_book),
                    name="key",
                ),
            ],
        )
    )


def _sdapi(services: Services) -> list[BaseRoute]:
    """AUTOMATIC1111's API."""
    return list(
        sdapi_routes(
            images=services.images,
            authenticator=services.authenticator,
            models=services.models,
            directory=services.directory,
            redis=services.redis,
            body_bytes_max=services.settings.image_body_bytes_max,
        )
    )


def _link(services: Services) -> list[BaseRoute]:
    return [WebSocketRoute(LINK_PATH, services.link)]


def _graphql(services: Services) -> list[BaseRoute]:
    endpoint = GraphQLEndpoint(shared_schema(development=services.settings.development), services)
    pages = CORSMiddleware(
        endpoint,
        allow_origins=services.settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
        expose_headers=EXPOSED_HEADERS,
    )
    return [*asset_routes(), Route(GRAPHQL_PATH, pages), WebSocketRoute(GRAPHQL_PATH, endpoint)]
