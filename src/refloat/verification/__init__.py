"""Verification: behaviour measured under load and judged against a baseline."""
