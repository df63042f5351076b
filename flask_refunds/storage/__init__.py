"""MongoDB: the connection, the ledger, and the collections of the app."""
