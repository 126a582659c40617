"""What the server does without the service, and what it cannot leave out."""

# granian answers what it cannot read itself, with a status and nothing else.
EMPTY_ANSWERS = frozenset({400, 414, 431})
# It names itself unless the header is there.
SERVER_HEADER = ""
