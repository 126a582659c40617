"""One client in the load test of `make load`. LOAD_CREDENTIALS is an access token for `prices:read`."""

import os

from locust import HttpUser, between, task


class Reader(HttpUser):
    """Lists the newest prices."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.client.headers["Authorization"] = f"Bearer {os.environ['LOAD_CREDENTIALS']}"

    @task
    def list_prices(self) -> None:
        self.client.get("/api/v1/prices?limit=20", name="/api/v1/prices")
