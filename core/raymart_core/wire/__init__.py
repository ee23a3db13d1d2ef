"""Messages that cross between the planes, as msgspec structs with a version.

`replica` is HTTP to an engine's replica, `link` the node agent's WebSocket. Unknown fields are ignored; an unknown
message type is an error. Nothing pickled crosses: JSON or MessagePack only.
"""
