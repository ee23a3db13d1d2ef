"""What the operator's command line needs besides its commands."""
