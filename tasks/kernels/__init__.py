"""What several stages share; nothing here knows a stage."""
