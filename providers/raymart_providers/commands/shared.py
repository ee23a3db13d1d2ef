"""What the commands have in common: options, and how a failure is told."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from raymart_providers.errors import ProviderError
from raymart_serve.models import WeightsUnavailable

StateOption = Annotated[
    Path, typer.Option("--state-dir", help="Where this node keeps its key and identity; one per node.")
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="The marketplace, http(s):// or ws(s)://; kept after the first join."),
]
PlaintextOption = Annotated[
    bool, typer.Option("--allow-plaintext", help="Allow an unencrypted link to another machine.")
]
RayHostOption = Annotated[
    str, typer.Option("--ray-host", help="Where Ray listens; a private address to let other machines in.")
]

DEFAULT_STATE = Path.home() / ".raymart" / "node"
DEFAULT_CONTROLLER_STATE = Path.home() / ".raymart" / "controller"


class Output(StrEnum):
    """How a listing is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Whatever a person can mend is one line on standard error, and exit 1."""
    try:
        yield
    except (ProviderError, WeightsUnavailable) as error:
        print(f"raymart-provider: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
