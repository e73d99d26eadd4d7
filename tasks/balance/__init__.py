"""Classes and tasks to the wanted proportions, in train only."""
