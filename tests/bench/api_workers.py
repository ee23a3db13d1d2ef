"""The measured API in several workers, as `raymart serve-api --workers` runs them: a supervisor, a nursery and its forks.

Prints its port once for each worker that serves. Usage: api_workers.py COUNT REPLICA_PORT MARKET, settings in the
environment. The supervisor starts the nursery: api_workers.py REPLICA_PORT MARKET CONTROL_FD.
"""

import asyncio
import os
import socket
import sys

from raymart_graphql.operator.workers import Workers, listen_together

DRAIN_S = 5.0


def supervise(count: int, *arguments: str) -> None:
    """With nothing in memory that the real supervisor has not."""
    listeners = listen_together("127.0.0.1", 0, count=count)
    command = (sys.executable, __file__, *arguments)
    asyncio.run(Workers(listeners, drain_s=DRAIN_S, command=command).run())


def raise_measured(replica_port: str, market: str, control_fd: int) -> None:
    """What `operator.api_nursery` does, with apps that have `market` in routing."""
    from api_process import measured_app

    from raymart_core.logs import configure_logs
    from raymart_graphql.app import prepare
    from raymart_graphql.operator.nursery import raise_workers
    from raymart_graphql.operator.serving import api_config
    from raymart_graphql.operator.worker import serve
    from raymart_marketplace.settings import ControlSettings
    from raymart_marketplace.supply.siblings import Meetings

    settings = ControlSettings()
    configure_logs(process="api", level=settings.log_level)
    prepare(settings)

    def work(listener_fd: int, control_fd: int) -> None:
        with socket.socket(fileno=os.dup(listener_fd)) as listener:
            port = listener.getsockname()[1]
        config = api_config(settings)
        config.app, config.factory = measured_app(settings, port, [replica_port, market]), False
        # Each has the whole market of its own: what they would tell each other is heard, and not listened to.
        serve(
            config,
            listener_fd=listener_fd,
            control_fd=control_fd,
            retirement_s=DRAIN_S,
            meetings=Meetings(),
        )

    raise_workers(control_fd, work)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[2].isdigit():
        supervise(int(sys.argv[1]), *sys.argv[2:])
    else:
        raise_measured(sys.argv[1], sys.argv[2], int(sys.argv[3]))
