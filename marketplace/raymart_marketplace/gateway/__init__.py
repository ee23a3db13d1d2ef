"""The gateway: from a customer's request to delivered, counted and recorded tokens.

`Inference` is the one way in for every surface (REST, GraphQL); `gateway_routes` is the OpenAI-shaped REST surface.
"""
