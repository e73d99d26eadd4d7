"""The data-quality gate behind every stage: bounds held against what the stage counted, in every run, cached or not."""
