"""`raymart`: the operator's command line. Other distributions add commands by entry points (`raymart.commands`).

A command's module is imported when that command is run: all of them together take two seconds of CPU, which every
`raymart ledger verify` would pay for Stripe, Celery, Alembic and GraphQL.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple, NoReturn

import typer

from raymart_core.errors import DomainError, NotFound
from raymart_core.logs import configure_logs

COMMANDS_GROUP = "raymart.commands"


class Deferred(NamedTuple):
    """A command, or a group of them, that is not imported yet."""

    module: str
    """Its module in `raymart_graphql.operator`."""
    name: str
    """What it is there: a `typer.Typer` for a group, a function for a command."""
    help: str
    is_hidden: bool = False

    def load(self, path: str) -> typer.Typer | Callable[..., None]:
        """Import it. What it commits is an act of the operator in the audit log, under the name `path`."""
        found: typer.Typer | Callable[..., None] = getattr(
            import_module(f"raymart_graphql.operator.{self.module}"), self.name
        )
        acting = import_module("raymart_graphql.operator.acting")
        if isinstance(found, typer.Typer):
            acting.record_group(found, path)
            return found
        made: Callable[..., None] = acting.recorded(found, path)
        return made


COMMANDS: Mapping[str, Deferred] = {
    "seed": Deferred("seed_command", "seed_demo", "Make the demo's accounts.", is_hidden=True),
    "serve-api": Deferred(
        "serve_command", "serve", "Serve the API until SIGTERM: gateway, GraphQL and the nodes' links."
    ),
    "db": Deferred("database_commands", "database", "The database's schema."),
    "admin": Deferred("people_commands", "admin", "The marketplace's administrators."),
    "user": Deferred("user_commands", "user", "People's accounts, sessions and second factors."),
    "token": Deferred("people_commands", "token", "Access tokens."),
    "permissions": Deferred("permissions_command", "permissions", "Which role may do what."),
    "provider": Deferred("supply_commands", "provider", "Providers."),
    "pool": Deferred("supply_commands", "pool", "Pools, and whether they are as they should be."),
    "placements": Deferred("placement_commands", "placements", "What runs where, and what no machine takes."),
    "node": Deferred("supply_commands", "node", "Machines that serve."),
    "model": Deferred(
        "model_commands", "model", "Models: import, revisions, aliases, rollback, private ones."
    ),
    "ledger": Deferred("ledger_commands", "ledger", "The books: checks, statements, corrections."),
    "price": Deferred("pricing_commands", "price", "Prices, caps and fees."),
    "budget": Deferred("budget_commands", "budget", "Budgets and leases."),
    "usage": Deferred(
        "usage_commands", "usage", "Usage: what was spilled, the months it is kept in, its rollups."
    ),
    "work": Deferred("work_commands", "work", "Background work."),
    "invoice": Deferred("invoice_commands", "invoice", "Invoices, credit notes and refunds."),
    "deposit": Deferred("deposit_commands", "deposit", "Deposits, disputes and grants."),
    "usdc": Deferred("usdc_commands", "usdc", "Top-ups in USDC, and the treasury they arrive at."),
    "payouts": Deferred(
        "payout_commands", "payouts", "Payouts: batches, rules, and the chain against the ledger."
    ),
    "privacy": Deferred("privacy_commands", "privacy", "An organization's copy of what is its own."),
    "audit": Deferred("audit_commands", "audit", "The audit log: who changed what."),
}


def main() -> None:
    """Run the command line of this process."""
    configure_logs(process="raymart")
    run(sys.argv[1:])


def run(arguments: Sequence[str]) -> NoReturn:
    """Run a command; an expected failure is one line on standard error and exit status 1, misuse is 2.

    Raises: SystemExit, always.
    """
    try:
        command_line(_wanted(arguments))(list(arguments), prog_name="raymart")
    except DomainError as error:
        _fail(error.message)
    except Exception as error:
        explained = _explanation(error)
        if explained is None:
            raise
        line, status = explained
        _fail(line, status=status)
    raise SystemExit(0)


def command_line(wanted: str | None) -> typer.Typer:
    """`raymart` with the command `wanted` ready to run; of the others their names and what they are for.

    Raises: NotFound when the wanted one belongs to another distribution and cannot be loaded.
    """
    app = typer.Typer(
        name="raymart",
        help="Operate a Raymart marketplace.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for name, command in COMMANDS.items():
        _add(app, name, command.load(f"raymart {name}") if name == wanted else _not_loaded, command)
    for entry in entry_points(group=COMMANDS_GROUP):
        # The overview lists those that can be loaded.
        if wanted in {None, entry.name}:
            _add_others(app, entry, must_load=wanted is not None)
    return app


def _add(app: typer.Typer, name: str, found: typer.Typer | Callable[..., None], command: Deferred) -> None:
    """Add a command or a group under its name."""
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name, help=command.help)
    else:
        app.command(name, help=command.help, hidden=command.is_hidden)(found)


def _not_loaded() -> None:
    """Stands in the overview for a command that nobody asked for."""
    raise AssertionError("only the command that is named on the command line runs, and that one is loaded")


def _add_others(app: typer.Typer, entry: EntryPoint, *, must_load: bool) -> None:
    """Add one command of another distribution, under its entry point's name. Raises: NotFound."""
    try:
        command = entry.load()
    except (ImportError, AttributeError) as error:
        if must_load:
            raise NotFound(f"the command {entry.name!r} cannot be loaded: {error}") from error
        return
    app.command(entry.name)(command)


def _wanted(arguments: Sequence[str]) -> str | None:
    """The command that `arguments` name; None when they ask for the overview."""
    return arguments[0] if arguments and not arguments[0].startswith("-") else None


def _explanation(error: Exception) -> tuple[str, int] | None:
    """The line and the exit status for what a library raised; None for a programmer's mistake."""
    # Imported here, for it imports the libraries whose exceptions it knows.
    failures = import_module("raymart_graphql.operator.failures")
    explained: tuple[str, int] | None = failures.explanation(error)
    return explained


def _fail(message: str, *, status: int = 1) -> NoReturn:
    """One line on standard error and the exit status."""
    typer.echo(f"raymart: {message}", err=True)
    raise SystemExit(status)
