"""WebSockets in rooms: `chassis.get(Broadcaster).join(websocket, room)`, and `send(room, message)` from anywhere."""

from __future__ import annotations

from pydantic import Field

from ..settings import BaseChassisSettings


class Settings(BaseChassisSettings):
    """WebSockets"""

    websocket_max_connections: int = Field(
        1000, gt=0, description="How many WebSockets one process serves; a further handshake gets 503."
    )
    websocket_max_message_bytes: int = Field(
        65_536, gt=0, description="Maximum size of a message of a client; larger ones close the connection with 1009."
    )
    websocket_max_messages_per_second: int = Field(
        20, gt=0, description="How many messages one client may send; further ones close its connection with 1008."
    )
    websocket_queue_messages: int = Field(
        100, gt=0, description="Messages that may wait for one client; a further one closes its connection with 1013."
    )
    websocket_ping_seconds: float = Field(
        20.0, gt=0, description="Time between two pings, and how long a client may take to respond to one."
    )
