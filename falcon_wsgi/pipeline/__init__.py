"""The story of one request: admit, idempotency, cache, predict, journal."""
