"""Engines, the replica that serves one, and placements on Ray Serve. Importing this loads neither Ray nor an engine."""
