"""HTTP: routes, webhooks, authentication and answers."""
