"""What a caller may still ask for."""
