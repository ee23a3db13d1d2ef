"""Raymart's money: the ledger, holds, rating, posting, and the background tasks that finish what a process left."""
