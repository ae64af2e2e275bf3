"""Checks that compare source, ledger and target."""
