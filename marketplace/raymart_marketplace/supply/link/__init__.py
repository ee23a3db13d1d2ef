"""The marketplace's end of the link: handshake, control loop and tunnel over one WebSocket per node.

Public: `LinkEndpoint`, the ASGI app for the route `/link`, and `LinkLimits`. The wire format is
`raymart_core.wire.link`.
"""

from raymart_marketplace.supply.link.endpoint import LinkEndpoint
from raymart_marketplace.supply.link.limits import LinkLimits

__all__ = ["LinkEndpoint", "LinkLimits"]
