"""The tests of the portfolio."""
