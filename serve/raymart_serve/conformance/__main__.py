"""Check an installed engine: `python -m raymart_serve.conformance --engine NAME --path WEIGHTS`.

Prints a line for each check and ends with status 1 when one was not passed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from raymart_serve.conformance.checks import Check, Nonconformance
from raymart_serve.conformance.kit import CAPABILITIES, checks_for
from raymart_serve.conformance.rig import Rig, Subject
from raymart_serve.engines.protocol import EngineSpec
from raymart_serve.engines.registry import engine_factory

_CAPABILITIES = {capability.__name__.lower(): capability for capability in CAPABILITIES}


def main(arguments: Sequence[str]) -> int:
    """Run all checks of what the engine can do; returns how many were not passed, 1 at most."""
    options = _parser().parse_args(arguments)
    spec = EngineSpec(
        path=options.path,
        context_length=options.context_length,
        slots=options.slots,
        waiting_max=options.waiting_max,
    )
    asked = {
        name: value
        for name in ("question", "story", "multibyte")
        if (value := getattr(options, name)) is not None
    }
    subject = Subject(
        factory=engine_factory(options.engine),
        spec=spec,
        logprobs=not options.no_logprobs,
        response_format=not options.no_response_format,
        tools=not options.no_tools,
        **asked,
    )
    capabilities = [_CAPABILITIES[name] for name in options.can.split(",")]
    with Rig(subject) as rig:
        sys.stdout.write(f"{rig.engine.label}: {options.can}\n")
        # The list comes first: every check is run, also after one that was not passed.
        passed = [_passes(rig, check) for check in checks_for(*capabilities)]
    sys.stdout.write(f"{sum(passed)} of {len(passed)} checks passed\n")
    return 0 if all(passed) else 1


def _passes(rig: Rig, check: Check) -> bool:
    started_at = time.monotonic()
    try:
        rig.run(check)
    except Nonconformance as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises, the other checks are run too
        problem = f"it raised {error!r}"
    else:
        problem = ""
    took_ms = (time.monotonic() - started_at) * 1000
    sys.stdout.write(f"{'FAIL' if problem else 'ok':4} {check.name} ({took_ms:.0f} ms)\n")
    if problem:
        sys.stdout.write(f"     promise: {check.promise}\n     but:     {problem}\n")
    sys.stdout.flush()
    return not problem


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m raymart_serve.conformance", description="Checks that any engine must pass."
    )
    parser.add_argument("--engine", required=True, help="its name among the entry points raymart.engines")
    parser.add_argument("--path", type=Path, required=True, help="weights: a file, or a folder of files")
    parser.add_argument("--can", default="generates", help=f"comma-separated, of {', '.join(_CAPABILITIES)}")
    parser.add_argument("--context-length", type=int, default=1024)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--waiting-max", type=int, default=3)
    parser.add_argument(
        "--question", help="answered greedily in 5 to 200 tokens, then the model ends by itself"
    )
    parser.add_argument("--story", help="answered differently each time at a high temperature")
    parser.add_argument("--multibyte", help="makes characters of several bytes likely")
    parser.add_argument("--no-logprobs", action="store_true", help="the engine refuses top_logprobs")
    parser.add_argument("--no-response-format", action="store_true", help="it refuses response_format")
    parser.add_argument("--no-tools", action="store_true", help="it refuses a tool_choice of required")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
