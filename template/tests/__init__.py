"""The tests: `chassis/` holds the service to its contract, every other folder is about a domain of yours."""
