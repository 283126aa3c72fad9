"""The vault, format 1: content-named, sealed, signed objects in any store."""
