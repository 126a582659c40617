"""The behaviour of one client in the load test of `make load`. COFFEE_API_KEY is a key with both scopes."""

import os

from locust import HttpUser, between, task


class Client(HttpUser):
    """Reads the list of today with most requests, and adds a cup with every tenth."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.client.headers["X-API-Key"] = os.environ["COFFEE_API_KEY"]

    @task(9)
    def read_today(self) -> None:
        self.client.get("/api/v1/today")

    @task(1)
    def drink(self) -> None:
        self.client.post("/api/v1/cups", json={"kind": "espresso", "caffeine_mg": 63})
