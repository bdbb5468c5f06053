"""The ledger as a public log: signed, anchored, witnessed, and readable from any web server."""
