"""What a user may ask for: the configuration's models, its loader, and the errors every layer raises."""
