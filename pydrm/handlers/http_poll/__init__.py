"""An HTTP address asked at an interval: `HttpPoll` in `kind` is what the agent sees of it."""
