"""The server: uvicorn with limits on request headers and connections, and a drain before it stops."""
