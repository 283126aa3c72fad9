"""Recover a whole AI pipeline, together, in another region, and prove that it answers as well as before."""
