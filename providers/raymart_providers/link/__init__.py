"""The node's end of the link: dial, prove the node key, heartbeat, reconnect. What travels on it is the peer's."""
