"""Plans: what a recovery will do, in which order, and how long it should take."""
