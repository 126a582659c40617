"""The tests of the offers."""
