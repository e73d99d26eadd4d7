"""Train, validation and named test sets, between which nothing leaks."""
