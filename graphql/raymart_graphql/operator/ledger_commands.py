"""`raymart ledger`: the books: checks, statements, corrections."""

import typer

ledger = typer.Typer(help="The books: checks, statements, corrections.", no_args_is_help=True)
