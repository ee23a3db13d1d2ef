"""A replica without Ray: `python -m raymart_serve.replica --source ... --sha256 ... --revision ... --model ...`.

For tests and for machines that run no Ray. Prints one JSON line {"address", "secret", "replica_id", "pid"} on
standard output when it is ready; SIGTERM and SIGINT drain it. With --agent-file it registers with a node agent.
"""

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from raymart_core.logs import configure_logs
from raymart_serve.replica.config import ReplicaConfig
from raymart_serve.replica.replica import Replica
from raymart_serve.settings import ReplicaSettings


def main(arguments: Sequence[str]) -> None:
    """Run until a signal."""
    options = _parser().parse_args(arguments)
    configure_logs(process="replica")
    config = ReplicaConfig(
        model=options.model,
        revision=options.revision,
        engine=options.engine,
        source=options.source,
        sha256=options.sha256,
        context_length=options.context_length,
        slots=options.slots,
        parameters=dict(options.parameter),
        waiting_max=options.waiting_max,
        drain_timeout_s=options.drain_timeout_s,
        step_delay_ms=options.step_delay_ms,
    )
    settings = ReplicaSettings()
    changes = {"agent_file": options.agent_file} if options.agent_file else {}
    # The loop that Serve uses too.
    uvloop.run(_serve(config, settings.model_copy(update=changes)))


async def _serve(config: ReplicaConfig, settings: ReplicaSettings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    replica = Replica(config, settings, replica_id=f"standalone-{secrets.token_hex(6)}")
    await replica.start()
    ready = msgspec.json.encode(
        {
            "address": replica.address,
            "secret": replica.secret,
            "replica_id": replica.replica_id,
            "pid": replica.registration().pid,
        }
    )
    sys.stdout.write(ready.decode() + "\n")
    sys.stdout.flush()
    await stopping.wait()
    await replica.stop(timeout_s=config.drain_timeout_s)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m raymart_serve.replica", description="A replica without Ray."
    )
    parser.add_argument(
        "--source", required=True, help="where the weights are, such as bundled:demo-llm.gguf"
    )
    parser.add_argument("--sha256", required=True, help="their SHA-256, 64 hex digits")
    parser.add_argument("--revision", required=True, help="manifest digest, sha256:<hex>")
    parser.add_argument("--model", required=True, help="model slug, such as raymart/demo-chat")
    parser.add_argument("--engine", default="llama_cpp")
    parser.add_argument("--slots", type=int, default=2, help="generations at once")
    parser.add_argument(
        "--parameter",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the engine, as in the revision's manifest; may be repeated",
    )
    parser.add_argument("--waiting-max", type=int, default=64, help="requests that may wait for a slot")
    parser.add_argument("--context-length", type=int, default=1024, help="tokens of prompt and completion")
    parser.add_argument("--drain-timeout-s", type=float, default=60.0)
    parser.add_argument("--agent-file", type=Path, help="default: RAYMART_AGENT_FILE")
    parser.add_argument(
        "--step-delay-ms", type=float, default=0.0, help="for tests only: pause before each step"
    )
    return parser


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value


if __name__ == "__main__":
    main(sys.argv[1:])
