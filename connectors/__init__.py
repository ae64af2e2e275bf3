"""Readers of sources: each turns a partition into Arrow batches with numbered rows."""
