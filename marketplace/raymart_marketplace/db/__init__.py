"""The control plane's database: declarative base, column types, sessions."""
