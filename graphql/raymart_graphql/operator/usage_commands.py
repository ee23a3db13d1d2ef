"""`raymart usage`: usage and its rollups."""

import typer

usage = typer.Typer(help="Usage and its rollups.", no_args_is_help=True)
