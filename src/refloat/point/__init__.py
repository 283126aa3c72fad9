"""Recovery points: capture of consistent groups, invariants over facts, choice of a point."""
