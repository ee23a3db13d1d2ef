"""Listings: a table for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum

import typer
from rich.console import Console
from rich.table import Table


class Output(StrEnum):
    """How a listing is printed."""

    TABLE = "table"
    JSON = "json"


def print_rows(rows: Sequence[Mapping[str, object]], *, columns: Sequence[str], output: Output) -> None:
    """Print `rows` to standard output; JSON is one array of objects with the names in `columns`."""
    if output is Output.JSON:
        # Not through rich: it would wrap and colour what a program reads.
        typer.echo(json.dumps([{name: row[name] for name in columns} for row in rows], default=str, indent=2))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("-" if row[name] is None else str(row[name]) for name in columns))
    Console().print(table)
