"""clean: repairs text and redacts personal data; every edit is in the edit ledger."""
