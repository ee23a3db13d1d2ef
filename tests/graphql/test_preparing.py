"""What workers of one process share, and what each must have of its own."""

import subprocess
import sys

import pytest
from graphql import GraphQLSchema
from starlette.routing import WebSocketRoute

from raymart_graphql.app import GRAPHQL_PATH, create_app, prepare
from raymart_graphql.schema import shared_schema
from support.api_server import control_settings

SETTINGS = control_settings("postgresql://nobody:nothing@127.0.0.1/nowhere")


def schema_of(app) -> GraphQLSchema:
    [route] = [each for each in app.routes if isinstance(each, WebSocketRoute) and each.path == GRAPHQL_PATH]
    return route.app.schema


class TestPreparing:
    def test_every_app_has_the_schema_that_was_made_before(self):
        prepare(SETTINGS)
        made = shared_schema(development=SETTINGS.development)
        assert [schema_of(create_app(SETTINGS)) for _ in range(2)] == [made, made]

    def test_no_two_gateways_have_one_identity(self):
        """Two that lease credit under one name would take each other's leases for their own."""
        prepare(SETTINGS)
        first, second = (create_app(SETTINGS).state.services for _ in range(2))
        assert first.leases.gateway_id != second.leases.gateway_id


class TestImports:
    @pytest.mark.parametrize("first", ["app", "operator.serve_command", "operator.api_nursery"])
    def test_what_serves_has_none_of_what_only_others_need(self, first: str):
        """They are 50 MB: what migrates, prints documents, takes cards, runs tasks, signs transactions, decodes pictures, logs in elsewhere, colours, traces, reloads."""
        script = f"import sys, raymart_graphql.{first}, raymart_graphql.app; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        others = {"alembic", "typst", "stripe", "requests", "celery", "kombu", "solana_keychain", "construct"}
        others |= {"PIL", "authlib", "joserfc"}
        only_installed = {"rich", "pygments", "attr", "opentelemetry", "psutil", "watchfiles"}
        assert set(done.stdout.split()) & (others | only_installed) == set()

    def test_what_was_left_out_can_be_imported_afterwards(self):
        script = "import raymart_graphql.without_extras, opentelemetry, pygments, rich, watchfiles"
        subprocess.run([sys.executable, "-c", script], check=True)
