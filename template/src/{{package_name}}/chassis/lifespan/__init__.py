"""The resources of the service: opened in order when it starts, closed in reverse when it ends."""
