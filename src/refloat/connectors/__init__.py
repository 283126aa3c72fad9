"""One file a kind of component: how it is inspected, captured, staged and switched."""
