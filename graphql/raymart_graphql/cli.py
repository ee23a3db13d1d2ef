"""`raymart`: the operator's command line. Other distributions add commands by entry points (`raymart.commands`)."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from alembic.util import CommandError
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from raymart_core.errors import DomainError, NotFound
from raymart_core.logs import configure_logs
from raymart_graphql.operator.budget_commands import budget
from raymart_graphql.operator.database_commands import database
from raymart_graphql.operator.deposit_commands import deposit
from raymart_graphql.operator.invoice_commands import invoice
from raymart_graphql.operator.ledger_commands import ledger
from raymart_graphql.operator.people_commands import admin, token
from raymart_graphql.operator.pricing_commands import price
from raymart_graphql.operator.running import access_tokens, control_settings, with_database
from raymart_graphql.operator.serving import serve_api
from raymart_graphql.operator.supply_commands import model, node, provider
from raymart_graphql.operator.usage_commands import usage
from raymart_graphql.operator.work_commands import work
from raymart_graphql.seed import seed
from raymart_marketplace.accounts.tokens import TTL_S_MAX
from raymart_marketplace.db.session import Sessions

COMMANDS_GROUP = "raymart.commands"

app = typer.Typer(
    name="raymart",
    help="Operate a Raymart marketplace.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(database, name="db")
app.add_typer(admin, name="admin")
app.add_typer(token, name="token")
app.add_typer(provider, name="provider")
app.add_typer(node, name="node")
app.add_typer(model, name="model")
app.add_typer(ledger, name="ledger")
app.add_typer(price, name="price")
app.add_typer(budget, name="budget")
app.add_typer(usage, name="usage")
app.add_typer(work, name="work")
app.add_typer(invoice, name="invoice")
app.add_typer(deposit, name="deposit")


def main() -> None:
    """Run the command line. An expected failure is one line on standard error and exit status 1, misuse is 2."""
    configure_logs(process="raymart")
    try:
        _add_commands(_wanted(sys.argv[1:]))
        app()
    except DomainError as error:
        _fail(error.message)
    except ValidationError as error:
        _fail(_wrong_settings(error), status=2)
    except DBAPIError as error:
        _fail(
            f"the database refused: {_first_line(error.orig or error)}; is DATABASE_URL right, is it migrated?"
        )
    except (CommandError, OSError) as error:
        _fail(_first_line(error))


@app.command("seed", hidden=True)
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


@app.command("serve-api")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; RAYMART_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port; RAYMART_PORT.")] = None,
) -> None:
    """Serve the API until SIGTERM: gateway, GraphQL and the nodes' links."""
    settings = control_settings()
    chosen = {"host": host or settings.host, "port": port or settings.port}
    serve_api(settings.model_copy(update=chosen))


def _add_commands(wanted: str | None) -> None:
    """Add commands of other distributions: the `wanted` one, or for the overview (None) all that can be loaded.

    Raises: NotFound when the wanted one is installed but cannot be loaded.
    """
    for entry in entry_points(group=COMMANDS_GROUP):
        if wanted in {None, entry.name}:
            _add_command(entry, must_load=wanted is not None)


def _add_command(entry: EntryPoint, *, must_load: bool) -> None:
    """Add one command, under its entry point's name. Raises: NotFound."""
    try:
        command = entry.load()
    except (ImportError, AttributeError) as error:
        if must_load:
            raise NotFound(f"the command {entry.name!r} cannot be loaded: {_first_line(error)}") from error
        return
    app.command(entry.name)(command)


def _wanted(arguments: Sequence[str]) -> str | None:
    """The command that `arguments` name; None when they ask for the overview."""
    return arguments[0] if arguments and not arguments[0].startswith("-") else None


def _wrong_settings(error: ValidationError) -> str:
    """What is wrong with the environment, by the variables' names; never their values, which may be secret."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in problem["loc"])
        variable = field if field.isupper() else f"RAYMART_{field.upper()}"
        reason = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{variable}: {reason}" if field else reason)
    return "; ".join(problems)


def _first_line(error: BaseException) -> str:
    """The first line of what `error` says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _fail(message: str, *, status: int = 1) -> NoReturn:
    """One line on standard error and the exit status."""
    typer.echo(f"raymart: {message}", err=True)
    raise SystemExit(status)
