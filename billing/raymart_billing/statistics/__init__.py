"""How well endpoints and models serve, from recorded attempts; and how long machines are there."""

from raymart_billing.statistics.models import AttemptHour, AttemptSlot, NodePresence, ServiceFigures, Span
from raymart_billing.statistics.reading import figures_of, uptime_of_endpoints, uptime_of_nodes
from raymart_billing.statistics.refresh import make_figures, make_hours, make_slots, prune, sample_nodes

__all__ = [
    "AttemptHour",
    "AttemptSlot",
    "NodePresence",
    "ServiceFigures",
    "Span",
    "figures_of",
    "make_figures",
    "make_hours",
    "make_slots",
    "prune",
    "sample_nodes",
    "uptime_of_endpoints",
    "uptime_of_nodes",
]
