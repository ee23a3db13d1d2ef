"""The GraphQL API, and the composition root of the control plane (`app.create_app`, the `raymart` command)."""
