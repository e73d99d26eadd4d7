"""Teacher to students."""
