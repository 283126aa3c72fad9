"""The story told by ``refloat demo``: a real pipeline lost in one region and recovered in another."""
