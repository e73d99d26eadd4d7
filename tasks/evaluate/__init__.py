"""Quality and efficiency of each model on each test set, with intervals, and compared with the base model."""
