"""Identify callers: tokens, public keys and users."""
