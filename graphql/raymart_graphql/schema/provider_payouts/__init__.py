"""What a provider sees of its payouts: earnings by epoch, what was paid and where it is, and what comes next."""
