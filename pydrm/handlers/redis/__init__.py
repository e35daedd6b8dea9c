"""What Redis publishes: channels and patterns in `pubsub`, streams with a position in `stream`."""
