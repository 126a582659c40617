"""Faults of the servers that a rendered service depends on, and the promises that it keeps meanwhile."""
