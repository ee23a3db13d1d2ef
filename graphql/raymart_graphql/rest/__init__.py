"""REST for machines: the nodes' private API, the operators' health API, and the OpenAPI document of all of it."""
