"""`raymart price`: prices, caps and fees."""

import typer

price = typer.Typer(help="Prices, caps and fees.", no_args_is_help=True)
