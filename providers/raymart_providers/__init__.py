"""The compute plane's end: node agent, pool controller, the node's side of the link, and the provider's CLI."""
