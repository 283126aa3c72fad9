"""An assistant that answers questions about Python from Python's own documentation."""
