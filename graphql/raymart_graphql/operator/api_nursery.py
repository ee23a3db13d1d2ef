"""Raises workers of the API. Usage: python -m raymart_graphql.operator.api_nursery CONTROL_FD"""

import sys
from functools import partial

import raymart_graphql.without_extras  # noqa: F401 - first, see there
from raymart_core.logs import configure_logs
from raymart_graphql.app import create_app, prepare
from raymart_graphql.operator.nursery import raise_workers
from raymart_graphql.operator.running import control_settings
from raymart_graphql.operator.serving import api_config
from raymart_graphql.operator.worker import serve
from raymart_marketplace.supply.siblings import Meetings


def main() -> None:
    """Import and make what all workers need, then wait for orders."""
    settings = control_settings()
    configure_logs(process="api", level=settings.log_level)
    prepare(settings)

    def work(listener_fd: int, control_fd: int) -> None:
        # Nobody waits for who retires, so no request that keeps its own deadline is cut.
        retirement_s = settings.request_deadline_s + settings.drain_s
        meetings = Meetings()
        serve(
            api_config(settings, app=partial(create_app, meetings=meetings)),
            listener_fd=listener_fd,
            control_fd=control_fd,
            retirement_s=retirement_s,
            meetings=meetings,
        )

    raise_workers(int(sys.argv[1]), work)


if __name__ == "__main__":
    main()
