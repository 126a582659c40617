"""The behaviour of one client in a load test: `make load`. See https://docs.locust.io for more."""

from uuid import uuid4

from locust import HttpUser, between, task


class Client(HttpUser):
    """Reads the list of notes, and creates a note with every tenth request."""

    wait_time = between(0.1, 0.5)

    @task(9)
    def list_notes(self) -> None:
        # The name groups all queries of the route in the summary.
        self.client.get("/api/v1/notes?limit=20", name="/api/v1/notes")

    @task(1)
    def create_note(self) -> None:
        self.client.post("/api/v1/notes", json={"title": f"Load test {uuid4()}"})
