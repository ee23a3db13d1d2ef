"""Who is calling: users, organizations, projects, API keys and access tokens."""
