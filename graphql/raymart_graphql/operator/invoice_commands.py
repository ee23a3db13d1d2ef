"""`raymart invoice`: invoices, credit notes and refunds."""

import typer

invoice = typer.Typer(help="Invoices, credit notes and refunds.", no_args_is_help=True)
