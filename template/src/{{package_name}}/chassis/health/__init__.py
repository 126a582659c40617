"""Health endpoints with three states: healthy, degraded, unhealthy. A failed database never restarts the process."""
