"""What can be followed: usage, balance, machines."""
