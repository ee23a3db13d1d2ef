"""`raymart work`: background work."""

import typer

work = typer.Typer(help="Background work.", no_args_is_help=True)
