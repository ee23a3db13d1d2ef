"""What can be asked for: models and their content-addressed revisions."""
