"""One file a way of asking a component a question."""
