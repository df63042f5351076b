"""Refund reports: aggregation in MongoDB, and the values that follow."""
