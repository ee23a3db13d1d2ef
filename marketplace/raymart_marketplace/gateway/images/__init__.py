"""Pictures: the same life of a request as text has, metered in megapixel-steps."""
