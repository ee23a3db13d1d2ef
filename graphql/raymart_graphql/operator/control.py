"""What a supervisor and one of its workers say to each other: packets on a pair of sockets, some with a descriptor.

Imports nothing, because the supervisor has nothing else in memory either.
"""

import socket

BEGIN = b"begin"
"""To a new worker, when it has been told of all siblings that there are."""
READY = b"ready"
"""What a worker says once it accepts connections."""
RETIRE = b"retire"
"""To a worker when another has taken its place: it accepts no more, and finishes what runs. The end of its control
connection means that the supervisor is gone, and ends it as SIGTERM does."""
ASK, HERE = b"ask", b"here"
"""A question to a worker that serves, and what its event loop answers as long as it turns (`pulse`)."""
MEET_YOUNGER, MEET_ELDER = b"meet younger", b"meet elder"
"""To a worker, with one end of a connection to a sibling that came after it, or before."""
ENDED = b""
"""What is read when the other end is gone."""
PACKET_BYTES_MAX = 64


def control_pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the worker's. The supervisor's never blocks: it must not wait for one of several workers."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0)
    return ours, theirs
