"""Timings; run with `make bench` on a machine that does nothing else."""
