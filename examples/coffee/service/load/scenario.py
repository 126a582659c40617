"""The clients in the load test of `make load`. LOAD_CREDENTIALS is an API key with both scopes."""

import os

from locust import HttpUser, between, task


class Reader(HttpUser):
    """Only reads the list of today."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.client.headers["X-API-Key"] = os.environ["LOAD_CREDENTIALS"]

    @task(9)
    def read_today(self) -> None:
        self.client.get("/api/v1/today")


class Writer(Reader):
    """Reads the list of today, and adds a cup with one of ten requests."""

    @task(1)
    def drink(self) -> None:
        self.client.post("/api/v1/cups", json={"kind": "espresso", "caffeine_mg": 63})
