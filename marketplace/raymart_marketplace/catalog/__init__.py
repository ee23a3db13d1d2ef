"""The catalog: models, and their revisions named by the digest of a manifest."""
