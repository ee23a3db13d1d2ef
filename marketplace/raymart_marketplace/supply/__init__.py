"""Who serves: providers, pools, nodes, offers, placements and the endpoints that can be routed to."""
