"""Runs: a plan executed step by step under a journal that survives its orchestrator."""
