"""Members of organizations, invitations, projects, and support's looks."""
