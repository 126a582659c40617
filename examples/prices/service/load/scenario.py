"""The behaviour of one client in the load test of `make load`. PRICES_TOKEN is an access token for `prices:read`."""

import os

from locust import HttpUser, between, task


class Reader(HttpUser):
    """Lists the newest prices."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.client.headers["Authorization"] = f"Bearer {os.environ['PRICES_TOKEN']}"

    @task
    def list_prices(self) -> None:
        self.client.get("/api/v1/prices?limit=20", name="/api/v1/prices")
