"""A rendered service on a real API server and kubelet, deployed, rolled back, drained and broken under load."""
