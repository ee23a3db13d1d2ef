"""Run the development chain: `python -m raymart_billing.solana.devchain --data-dir var/solana --port 8899`.

Before it listens it writes beside its journal, in `chain.json`, what others need: the mint and, when it keeps a
treasury, whose address. Ends with status 1 and a sentence when it cannot run.
"""

import argparse
import json
import socket
import sys
from pathlib import Path

import structlog
import uvicorn

from raymart_billing.solana.devchain.dev_chain import DevChain
from raymart_billing.solana.devchain.server import DevChainApp
from raymart_billing.solana.devchain.slots import SLOT_S
from raymart_billing.solana.devchain.treasury import open_treasury
from raymart_core.errors import RaymartError, Unavailable
from raymart_core.logs import configure_logs

LOOPBACK = "127.0.0.1"
_log = structlog.get_logger(__name__)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    given = _arguments()
    configure_logs(process="solana")
    try:
        listener = listen(given.port)
        chain = DevChain.persistent(given.data_dir, slot_s=given.slot_ms / 1_000)
        _publish(chain, given, port=listener.getsockname()[1])
    except (OSError, RaymartError) as error:
        sys.stderr.write(f"raymart: the development chain cannot run: {error}\n")
        raise SystemExit(1) from None
    with listener:
        _serve(chain, listener)


def listen(port: int) -> socket.socket:
    """A listening socket on loopback. Raises: Unavailable."""
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise Unavailable(
            f"port {port} of {LOOPBACK} cannot be had ({error.strerror}); stop what listens there or choose another"
        ) from error


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raymart_billing.solana.devchain", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the chain is kept")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1; 0 = a free one, see chain.json")
    parser.add_argument("--slot-ms", type=float, default=SLOT_S * 1_000, help="length of a slot")
    parser.add_argument("--treasury-keypair", type=Path, help="key of a treasury, made and funded if missing")
    return parser.parse_args()


def _publish(chain: DevChain, given: argparse.Namespace, *, port: int) -> None:
    """Write `chain.json`. Raises: RaymartError."""
    landed = chain.landed
    mint = chain.faucet.create_mint()
    treasury = open_treasury(chain, given.treasury_keypair) if given.treasury_keypair else None
    if chain.landed > landed:
        # What the chain begins with is final from the first answer on.
        chain.finalize()
    told = {
        "rpc_url": f"http://{LOOPBACK}:{port}",
        "genesis_hash": chain.genesis_hash,
        "usdc_mint": str(mint),
        "treasury": None if treasury is None else str(treasury),
    }
    staged = given.data_dir / "chain.json.staged"
    staged.write_text(json.dumps(told, indent=2) + "\n")
    staged.rename(given.data_dir / "chain.json")


def _serve(chain: DevChain, listener: socket.socket) -> None:
    def fail(error: OSError) -> None:
        # What was answered before is on disk; what comes now would be forgotten at the next start.
        _log.error("devchain.journal_failed", error=str(error))
        server.should_exit = True

    config = uvicorn.Config(
        DevChainApp(chain, on_failure=fail),
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    _log.info("devchain.ready", port=listener.getsockname()[1], slot=chain.slot, landed=chain.landed)
    server.run(sockets=[listener])
    chain.close()


if __name__ == "__main__":
    main()
