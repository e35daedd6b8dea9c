"""A connection to a WebSocket server: `Websocket` in `kind` is what the agent sees of it."""
