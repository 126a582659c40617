"""Servers of the tests' own: found on the machine, one of each a session, never one that runs already."""
