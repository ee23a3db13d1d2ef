"""What the database holds of whom (`columns.py`), and an organization's copy of what is its own (`export.py`)."""
