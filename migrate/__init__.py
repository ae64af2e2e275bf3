"""The command `migrate`: legacy data into Aurora PostgreSQL, every row accounted for."""
