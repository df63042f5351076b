"""The HTTP API: routes, webhooks, authentication and responses."""
