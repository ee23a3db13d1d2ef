"""Requests and tokens a minute, and requests at once, of keys, projects and organizations. Start reading at `limiter.py`."""
