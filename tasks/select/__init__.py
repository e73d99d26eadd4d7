"""Keep what is relevant to the target domain: similarity to good examples, or to the task in words."""
