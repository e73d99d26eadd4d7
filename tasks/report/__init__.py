"""One HTML page a person would rather look at than read numbers."""
