"""Monitoring: each way to watch the service is one file. They use the chassis, and no other part uses them."""
