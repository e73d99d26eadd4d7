"""The stages: one folder each, over a few files that hold what every stage shares."""
