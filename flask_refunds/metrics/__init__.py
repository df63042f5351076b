"""Refund reports: aggregations in MongoDB, and the values derived from them."""
