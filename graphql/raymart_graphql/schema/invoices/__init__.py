"""Invoices, credit notes and refunds."""
