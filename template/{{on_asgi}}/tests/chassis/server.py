"""What the server does without the service, and what it cannot leave out."""

# uvicorn has the service answer what it cannot read itself.
EMPTY_ANSWERS: frozenset[int] = frozenset()
SERVER_HEADER = None
