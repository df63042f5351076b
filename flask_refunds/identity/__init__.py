"""Who calls: tokens, published keys and users."""
