"""Stripe: requests, answers, webhook signatures and the rate limit."""
