"""A Solana chain for development and tests: real programs, with the time and the faults of a network."""

from raymart_billing.solana.devchain.dev_chain import DevChain
from raymart_billing.solana.devchain.errors import NodeUnavailable
from raymart_billing.solana.devchain.faults import Faults
from raymart_billing.solana.devchain.node import Node
from raymart_billing.solana.devchain.slots import SlotClock

__all__ = ["DevChain", "Faults", "Node", "NodeUnavailable", "SlotClock"]
