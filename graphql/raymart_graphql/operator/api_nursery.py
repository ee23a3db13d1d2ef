"""Raises workers of the API. Usage: python -m raymart_graphql.operator.api_nursery CONTROL_FD"""

import sys

from raymart_core.logs import configure_logs
from raymart_graphql.app import prepare
from raymart_graphql.operator.nursery import raise_workers
from raymart_graphql.operator.running import control_settings
from raymart_graphql.operator.serving import api_config
from raymart_graphql.operator.worker import serve


def main() -> None:
    """Import and make what all workers need, then wait for orders."""
    settings = control_settings()
    configure_logs(process="api", level=settings.log_level)
    prepare(settings)

    def work(listener_fd: int, control_fd: int) -> None:
        # Nobody waits for who retires, so no request that keeps its own deadline is cut.
        retirement_s = settings.request_deadline_s + settings.drain_s
        config = api_config(settings)
        serve(config, listener_fd=listener_fd, control_fd=control_fd, retirement_s=retirement_s)

    raise_workers(int(sys.argv[1]), work)


if __name__ == "__main__":
    main()
