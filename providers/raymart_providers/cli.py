"""`raymart-provider`: the composition root of a provider's machine."""

import typer

from raymart_providers.commands.asking import doctor, drain, leave, resume, rotate_key, status
from raymart_providers.commands.listings import LISTINGS
from raymart_providers.commands.serving import controller, join

app = typer.Typer(
    help="Run this machine as a node of a Raymart marketplace.", no_args_is_help=True, add_completion=False
)
for command in (join, status, doctor, drain, resume, rotate_key, leave, controller):
    app.command()(command)
for name, listing in LISTINGS.items():
    app.command(name)(listing)


def main() -> None:
    """Entry point of `raymart-provider`."""
    app()
