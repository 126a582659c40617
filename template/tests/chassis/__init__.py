"""The contract of the service, tested over HTTP and through its logs. The tests are the same for every framework."""
