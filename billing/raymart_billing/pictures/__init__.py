"""Pictures that customers had made: deleted when their time is over."""
