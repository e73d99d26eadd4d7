"""More varied training prompts; assistant text is never altered."""
