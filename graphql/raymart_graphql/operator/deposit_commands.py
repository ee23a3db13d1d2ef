"""`raymart deposit`: deposits, disputes and grants."""

import typer

deposit = typer.Typer(help="Deposits, disputes and grants.", no_args_is_help=True)
