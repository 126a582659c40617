"""The tests of the plans."""
