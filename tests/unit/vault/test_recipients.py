"""A recipient's public key is never mistaken for another; what is sealed for it opens with the private one alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from refloat.digest import canonical_json
from refloat.errors import Damaged, UsageError, VaultError, WrongKey
from refloat.vault import recipients
from refloat.vault.keyfile import KeyFile
from refloat.vault.keyobjects import WrapTold, key_objects
from refloat.vault.recipients import (
    RecipientKey,
    bech32,
    for_recipient,
    load_key,
    open_key_file,
    recipient_of,
    recipient_text,
    seal_key_file,
    told_of,
)

KEY = KeyFile.create("vault-1", "support")
OWN = RecipientKey.create()
LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def test_a_public_key_comes_back_from_its_text_however_it_was_copied() -> None:
    text = recipient_text(OWN.public)
    assert text == OWN.recipient and len(text) == 66 and text.startswith("refloat1")
    for copied in (text, text.upper(), f"  {text}\n"):
        assert recipient_of(copied) == OWN.public


def with_last_bits(content: bytes) -> str:
    """A text whose last digit says more than the bytes have bits, under a checksum that fits."""
    digits = [LETTERS.index(letter) for letter in bech32("refloat", content)[8:-6]]
    digits[-1] |= 1
    check = recipients._polymod([*recipients._expanded("refloat"), *digits, *[0] * 6]) ^ 1
    return "refloat1" + "".join(
        LETTERS[d] for d in [*digits, *(check >> 5 * (5 - at) & 31 for at in range(6))]
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "refloat1",
        "refloat1qqqqq",
        OWN.recipient.replace("refloat1", "Refloat1"),
        bech32("reflow", OWN.public),
        bech32("refloat", OWN.public[:-1]),
        bech32("refloat", OWN.public + b"\0"),
        bech32("refloat", bytes(32)),  # a point of low order
        with_last_bits(OWN.public),
        OWN.recipient[:-1],
    ],
    ids=itertools.count(),  # another key each time
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipient_of(text)
    assert "when the key pair was made" in (caught.value.next or "")


# -------------------------------------------------------------------------------------------- the private key


def test_a_file_that_is_given_as_the_key_is_what_it_says(tmp_path: Path) -> None:
    OWN.save(tmp_path / "own.private")
    KEY.save(tmp_path / "key")
    assert load_key(tmp_path / "own.private") == OWN
    assert load_key(tmp_path / "key") == KEY
    (tmp_path / "junk").write_text("{}")
    with pytest.raises(WrongKey) as caught:
        load_key(tmp_path / "junk")
    assert caught.value.file == str(tmp_path / "junk")
    with pytest.raises(UsageError):
        load_key(tmp_path / "nowhere")


def test_a_private_key_of_a_newer_refloat_says_so_and_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "own").write_text(json.dumps({**OWN.model_dump(), "format": 2}))
    with pytest.raises(VaultError, match="format 2") as caught:
        load_key(tmp_path / "own")
    assert not isinstance(caught.value, WrongKey)
    assert OWN.private not in f"{caught.value}{OWN}{OWN!r}"


# ------------------------------------------------------------------------------------------- what is sealed


def test_what_is_sealed_for_a_recipient_opens_with_its_private_key_alone() -> None:
    stored = seal_key_file(KEY, OWN.public)
    assert open_key_file(stored, OWN) == KEY
    assert seal_key_file(KEY, OWN.public) != stored
    assert KEY.catalogue_key.encode() not in stored
    with pytest.raises(WrongKey, match=f"is for recipient {for_recipient(OWN.public).id}"):
        open_key_file(stored, RecipientKey.create())


@pytest.mark.parametrize("field", ["vault", "sealed", "recipient", "type", "format"])
def test_what_is_sealed_with_any_field_changed_does_not_open(field: str) -> None:
    document = json.loads(seal_key_file(KEY, OWN.public))
    value = document[field]
    document[field] = 0 if isinstance(value, int) else ("0" if value[0] != "0" else "1") + value[1:]
    with pytest.raises((WrongKey, Damaged)):
        open_key_file(canonical_json(document), OWN)


def test_a_key_file_of_another_vault_than_the_object_says_is_damage() -> None:
    other = KeyFile.create("vault-2", "support")
    empty = recipients.RecipientKeyFile(vault="vault-1", recipient=OWN.public.hex(), sealed="")
    public = recipients.X25519PublicKey.from_public_bytes(OWN.public)
    sealed = recipients._suite().encrypt(other.to_bytes(), public, info=empty.purpose())
    stored = canonical_json({**empty.model_dump(mode="json"), "sealed": sealed.hex()})
    with pytest.raises(Damaged, match="another vault"):
        open_key_file(stored, OWN)


def test_of_any_object_it_is_told_what_it_is_sealed_for() -> None:
    wrapped = KEY.wrapped("p", "ab" * 16)
    assert told_of(wrapped) == WrapTold("ab" * 16)
    assert told_of(seal_key_file(KEY, OWN.public)) == WrapTold(for_recipient(OWN.public).id, OWN.public)
    for other in (*key_objects(KEY), b"", b"{}", wrapped[:-1], wrapped.replace(b"scrypt", b"argon2")):
        assert told_of(other) is None
