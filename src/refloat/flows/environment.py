"""The names by which a command finds what nobody passed to it; light to import."""

from __future__ import annotations

MANIFEST = "refloat.yaml"
"""The manifest, in the current directory."""

KEY_FILE = "REFLOAT_KEY_FILE"
"""The variable that names the key file."""

PASSPHRASE = "REFLOAT_PASSPHRASE"
"""The variable that holds the passphrase of a key that is kept in the vault."""

NEW_PASSPHRASE = "REFLOAT_NEW_PASSPHRASE"
"""The variable that holds the passphrase for which a new holder's key is kept in the vault."""
