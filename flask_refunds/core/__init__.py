"""The refund protocol: decisions, and nothing of HTTP."""
