"""The contract of rendered services on other versions of Python and of the servers than this machine has."""
