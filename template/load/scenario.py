"""The clients in the load test of `make load`. https://docs.locust.io describes how to write more."""

from uuid import uuid4

from locust import HttpUser, between, task


class Client(HttpUser):
    """Lists notes with nine of ten requests, and creates a note with the tenth. It keeps its connection."""

    wait_time = between(0.1, 0.5)

    @task(9)
    def list_notes(self) -> None:
        # The summary has one line for each name, whatever the query.
        self.client.get("/api/v1/notes?limit=20", name="/api/v1/notes")

    @task(1)
    def create_note(self) -> None:
        self.client.post("/api/v1/notes", json={"title": f"Load test {uuid4()}"})


class NewConnections(Client):
    """Sends the same requests, and opens a connection for each of them."""

    def on_start(self) -> None:
        self.client.headers["Connection"] = "close"
