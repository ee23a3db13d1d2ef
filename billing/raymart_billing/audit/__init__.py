"""The audit log's seals and their verification. Entries are written, found and exported by `raymart_marketplace.audit`."""
