"""The tests: `chassis/` tests the contract of the service, and each other folder tests one of your domains."""
