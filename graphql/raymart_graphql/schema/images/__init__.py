"""Pictures: made in one answer, or with their progress as they are made."""
