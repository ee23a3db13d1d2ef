"""Live state: what subscriptions show of an organization's usage and balance and of a provider's machines.

State and changes, not a log: a follower gets the present state first, then each newer one; who is slow or was away misses
states, never the last one. PostgreSQL is the truth; hints over Redis only say when to read it. See `hub`.
"""

from raymart_graphql.feeds.events import BalanceState, NodesState, NodeState, UsageLine, UsageState
from raymart_graphql.feeds.hints import EVERYBODY, Hints, Kind, Topic
from raymart_graphql.feeds.hub import Hub

__all__ = [
    "EVERYBODY",
    "BalanceState",
    "Hints",
    "Hub",
    "Kind",
    "NodeState",
    "NodesState",
    "Topic",
    "UsageLine",
    "UsageState",
]
