"""Identity and tenancy: users, organizations, projects, passwords, access tokens, API keys.

Start reading at `service` (the rules) and `authenticator` (who is calling, on the hot path).
"""
