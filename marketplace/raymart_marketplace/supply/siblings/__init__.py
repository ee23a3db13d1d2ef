"""The API processes of one machine share their nodes: each serves on every node that is linked to any of them.

Public: `Siblings`, what a process has of the others; `Meetings` and `Meeting`, how it gets to know them. Two siblings
have one connection, a pair of sockets that their supervisor made: it has no name, so nobody else can reach it. What a
node announces travels there as messages (`wire`), and requests as frames of the link: a process that holds a node's link
passes them on between the two without looking inside (`relay`), so that the link's windows reach from the node to the
process that serves the customer.
"""

from raymart_marketplace.supply.siblings.meetings import Meeting, Meetings
from raymart_marketplace.supply.siblings.siblings import Siblings

__all__ = ["Meeting", "Meetings", "Siblings"]
