"""How every Ray process of ours is tuned: defaults of its environment, before Ray is imported or started."""

from collections.abc import MutableMapping
from types import MappingProxyType
from typing import Final

TUNED: Final = MappingProxyType(
    {
        # A silent machine is dead after about 7 s; with Ray's defaults it was 63 s (facts: infrastructure, section 2c).
        "RAY_health_check_initial_delay_ms": "2000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "3",
        "RAY_grpc_client_keepalive_time_ms": "5000",
        "RAY_grpc_client_keepalive_timeout_ms": "3000",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "3",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        # Ray's Prometheus ports answer whoever asks, without a token, on every interface; nobody of ours asks them.
        "RAY_enable_metrics_collection": "0",
        # The head's dashboard has one more, which no setting closes: with a port that is none it cannot be opened.
        "DASHBOARD_METRIC_PORT": "-1",
        # Without Redis behind it a restarted head is a new cluster: nodes leave the old one soon, not after 60 s.
        # Whoever keeps the head's state in Redis sets it longer.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    }
)
START_HOOK: Final = "raymart_serve.ray_start_hook.shape_node"


def tune(environment: MutableMapping[str, str]) -> None:
    """Set what `environment` does not name. The same in head, nodes and drivers: Ray takes some of it from its head."""
    for name, value in TUNED.items():
        environment.setdefault(name, value)
