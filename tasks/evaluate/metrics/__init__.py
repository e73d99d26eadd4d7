"""Local `evaluate.Metric` modules, each over the library that is the field's reference for it; no hub needed."""
