"""What machines have, can do and are doing."""
