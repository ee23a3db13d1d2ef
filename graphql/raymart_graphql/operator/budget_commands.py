"""`raymart budget`: budgets and leases."""

import typer

budget = typer.Typer(help="Budgets and leases.", no_args_is_help=True)
