"""The only modules that import redis or psycopg."""
