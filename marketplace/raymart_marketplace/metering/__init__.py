"""What was delivered: requests, their attempts and their usage, written once each."""
