"""Events delivered to subscribed urls: `Webhook` in `kind` is what the agent sees of it."""
