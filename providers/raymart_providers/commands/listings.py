"""`nodes`, `placements`, `endpoints`, `offers` and `benchmarks`: what the marketplace has of this node and its provider."""

import json
from collections.abc import Callable

from raymart_providers.commands.shared import (
    DEFAULT_STATE,
    Output,
    OutputOption,
    PlaintextOption,
    ServerOption,
    StateOption,
    told_in_one_line,
)
from raymart_providers.state_dir import StateDir
from raymart_providers.tables import print_rows
from raymart_providers.worker_api import listing

_COLUMNS = {
    "nodes": ("name", "state", "pool", "region", "linked", "last_seen_at", "id"),
    "placements": (
        "model",
        "state",
        "replicas_running",
        "replicas_min",
        "replicas_max",
        "reason",
        "revision",
    ),
    "endpoints": ("model", "running", "capacity", "revision", "id"),
    "offers": ("model", "state", "ask_prompt_nano_usd", "ask_completion_nano_usd", "revision", "id"),
    "benchmarks": ("check", "device", "value", "limit", "passed", "reason", "message"),
}
_HELP = {
    "nodes": "Your provider's machines, as the marketplace sees them.",
    "placements": "What should run on this machine, and what is true of it.",
    "endpoints": "What of this machine can be routed to now.",
    "offers": "What your provider sells, and for how much (nano-USD).",
    "benchmarks": "What the last benchmark of this machine found.",
}


def _command(what: str) -> Callable[..., None]:
    def command(
        *,
        state_dir: StateOption = DEFAULT_STATE,
        server: ServerOption = None,
        allow_plaintext: PlaintextOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        with told_in_one_line():
            rows = listing(StateDir(state_dir), what, server=server, allow_plaintext=allow_plaintext)
        if output is Output.JSON:
            print(json.dumps(rows, indent=2))
        else:
            columns = _COLUMNS[what]
            print_rows(columns, [[_shown(row.get(column)) for column in columns] for row in rows])

    command.__doc__ = _HELP[what]
    return command


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


LISTINGS = {what: _command(what) for what in _COLUMNS}
"""The commands by their names."""
