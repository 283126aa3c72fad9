"""Evidence: the signed record of a run, objectives against results."""
