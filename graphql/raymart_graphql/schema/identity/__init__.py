"""People, organizations, projects and keys."""
