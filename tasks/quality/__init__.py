"""Low-quality rows out: rule sets, language, length."""
