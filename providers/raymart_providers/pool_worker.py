"""The only process of ours beside a Ray head that imports ray: applies and observes placements for its parent.

A process of its own, because Ray ends a driver that has lost its head for a minute, and some of its calls never
return: the pool controller outlives both by starting another. Reads one JSON request a line on standard input,
answers one JSON line on the file descriptor that standard output was; end of input ends it, whatever it is doing.

    python -m raymart_providers.pool_worker HOST:PORT
"""

import os
import queue
import sys
import threading
from typing import IO

import msgspec

from raymart_core.wire.link import Observed, Placement
from raymart_serve.placement import ServePool

HEAD_PATIENCE_S = 20.0
"""Where the head starts beside this process, or anew. Less than the parent's patience with this process."""


class WorkerRequest(msgspec.Struct, frozen=True):
    """What the parent asks: apply all of `placements` when given, tell of `demand` when given, then observe."""

    placements: tuple[Placement, ...] | None = None
    demand: dict[str, float] | None = None


class WorkerAnswer(msgspec.Struct, frozen=True):
    """The state after a request, or why there is none. The first answer of a process tells that it is connected."""

    observed: tuple[Observed, ...] = ()
    ray_nodes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    error: str | None = None


def main() -> None:
    """Serve the parent until it closes standard input."""
    answers = _take_standard_output()
    requests: queue.Queue[bytes] = queue.Queue(maxsize=4)
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    pool = ServePool(sys.argv[1])
    try:
        pool.connect(patience_s=HEAD_PATIENCE_S)
    except Exception as error:  # noqa: BLE001  # as below; the parent starts another process later.
        _say(answers, WorkerAnswer(error=_reason(error)))
        return
    _say(answers, WorkerAnswer())
    while True:
        _say(answers, _serve(pool, msgspec.json.decode(requests.get(), type=WorkerRequest)))


def _serve(pool: ServePool, request: WorkerRequest) -> WorkerAnswer:
    try:
        if request.placements is not None:
            pool.apply(request.placements)
        if request.demand is not None:
            pool.demand(request.demand)
        observed = tuple(pool.observe())
        return WorkerAnswer(observed=observed, ray_nodes=pool.survey.ray_nodes, unknown=pool.survey.unknown)
    except Exception as error:  # noqa: BLE001  # Ray raises whatever its internals raise; the parent decides.
        return WorkerAnswer(error=_reason(error))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:1_000]


def _take_standard_output() -> IO[bytes]:
    """The descriptor for answers. Ray prints its workers' output to standard output, so that goes to the log."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _read_requests(requests: "queue.Queue[bytes]") -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    # Not sys.exit: the main thread may be inside a call of Ray that never returns.
    os._exit(0)


def _say(answers: IO[bytes], answer: WorkerAnswer) -> None:
    answers.write(msgspec.json.encode(answer) + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
