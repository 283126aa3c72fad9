"""A key in shares: any three of five pages are the key, two are nothing, and what is mistyped is named."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

import pytest
from shamir_mnemonic import shamir

from refloat.errors import Damaged, UsageError, VaultError
from refloat.vault import kit, shares
from refloat.vault.keyfile import KeyFile, Role
from refloat.vault.kit import InShares, Restored, Site, read_pages

KEY = KeyFile.create("vault-1", "support").with_heads({"eu": (3, "a" * 64), "us": (5, "b" * 64)})
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SITES = [Site("eu", "s3://eu/support", (3, "a" * 64)), Site("us", "file:///u s/vault", answers=False)]


def printed(key_file: KeyFile = KEY, count: int = 5, threshold: int = 3) -> InShares:
    return kit.share_pages(key_file, SITES, NOW, count, threshold)


@pytest.fixture(scope="module")
def made() -> InShares:
    return printed()


@pytest.fixture(scope="module")
def pages(made: InShares) -> list[str]:
    return list(made.pages.values())


def nobody() -> str:
    raise AssertionError("no passphrase is needed")


def joined(*pages: str) -> Restored:
    return read_pages({f"{number}.txt": page for number, page in enumerate(pages, 1)}, nobody)


def lines_with(word: str, page: str) -> list[str]:
    return [line for line in page.splitlines() if re.match(rf"{word} \d", line) and "=" in line]


# ------------------------------------------------------------------------------------------------------ joining


@pytest.mark.parametrize("chosen", [*combinations(range(5), 3)], ids=str)
def test_any_three_of_five_pages_give_the_key(pages: list[str], chosen: Sequence[int]) -> None:  # fault 58
    restored = joined(*(pages[number] for number in reversed(chosen)))
    assert restored.key_file == KEY
    assert restored.shares == tuple(number + 1 for number in chosen)


@pytest.mark.parametrize("chosen", [*combinations(range(5), 2), *combinations(range(5), 1)], ids=str)
def test_fewer_give_nothing_and_say_what_is_missing(
    made: InShares, pages: list[str], chosen: Sequence[int]
) -> None:  # fault 58
    with pytest.raises(UsageError, match=f"3 shares of kit {made.number} are needed") as caught:
        joined(*(pages[number] for number in chosen))
    for number in range(5):
        assert (f"share {number + 1} (" in caught.value.message) == (number in chosen)
        assert (str(number + 1) in caught.value.next_step.partition("shares")[2]) == (number not in chosen)
    assert f"bring {3 - len(chosen)} more" in caught.value.next_step


@pytest.mark.parametrize(("count", "threshold"), [(2, 2), (16, 2), (16, 16)])
def test_the_smallest_and_the_largest_kits_give_the_key(count: int, threshold: int) -> None:
    pages = list(printed(count=count, threshold=threshold).pages.values())
    assert joined(*pages[-threshold:]).key_file == KEY
    with pytest.raises(UsageError, match="are needed"):
        joined(*pages[-threshold + 1 :])


@pytest.mark.parametrize(("count", "threshold"), [(1, 1), (5, 1), (5, 0), (2, 3), (17, 3), (0, 0), (-5, -3)])
def test_other_numbers_of_shares_are_refused(count: int, threshold: int) -> None:
    with pytest.raises(UsageError, match="cannot be made"):
        printed(count=count, threshold=threshold)


def test_a_share_that_is_given_twice_counts_once(pages: list[str]) -> None:
    with pytest.raises(UsageError, match="here are 2: share 1"):
        joined(pages[0], pages[3], pages[0])
    assert joined(pages[0], pages[3], pages[0], pages[1]).shares == (1, 2, 4)


def test_all_may_be_typed_into_one_text_with_the_key_lines_of_one_page(pages: list[str]) -> None:
    typed = [
        *lines_with("key", pages[4]),
        *(line for page in pages[:3] for line in lines_with("share", page)),
    ]
    random.Random(7).shuffle(typed)
    assert joined("\n".join(typed)).key_file == KEY
    assert joined("\n".join(pages)).shares == (1, 2, 3, 4, 5)


def test_what_a_person_types_otherwise_is_the_same(pages: list[str]) -> None:
    otherwise = [re.sub(r"(\w) +(\w)", r"\1   \2", page.upper()).replace(" =", "=") for page in pages]
    assert joined(*otherwise[:3]).key_file == KEY
    assert joined(*(f"> {page.lower()}".replace("\n", "\n> ") for page in pages[2:])).key_file == KEY


def test_shares_without_key_lines_and_key_lines_without_shares_say_so(
    made: InShares, pages: list[str]
) -> None:
    words = ["\n".join(lines_with("share", page)) for page in pages]
    with pytest.raises(UsageError, match="no key line") as caught:
        joined(*words)
    assert "key lines of one of these pages" in caught.value.next_step
    with pytest.raises(UsageError, match=f"3 shares of kit {made.number} are needed, and here are 0"):
        joined("\n".join(lines_with("key", pages[0])))


def test_a_page_that_has_the_whole_key_needs_no_share(pages: list[str]) -> None:
    whole = kit.page(KEY, SITES, NOW)
    restored = joined(whole)
    assert (restored.key_file, restored.shares) == (KEY, ())
    with pytest.raises(UsageError, match="key line 1 ") as caught:
        joined(pages[0], whole)
    assert caught.value.file == "2.txt"


@pytest.mark.parametrize("number", range(5))
def test_pages_that_do_not_give_the_key_back_are_not_handed_out(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:  # fault 58
    """One share is of another kit of the same number: its words are right, and they join to nothing."""
    monkeypatch.setattr(shamir, "_random_identifier", lambda: 20731)
    split, other = shares.split, shares.split(b"another", 5, 3)

    def spoiled(content: bytes, count: int, threshold: int) -> shares.Split:
        made = split(content, count, threshold)
        lines = [*made.lines]
        lines[number] = other.lines[number]
        return replace(made, lines=tuple(lines))

    monkeypatch.setattr(shares, "split", spoiled)
    with pytest.raises(VaultError, match="do not give the key back"):
        printed()


# ----------------------------------------------------------------------------------------------- another kit


def test_shares_of_two_kits_are_refused_and_named(made: InShares, pages: list[str]) -> None:  # fault 58
    other = printed()
    assert other.number != made.number, "one time in 32768 it is the same"
    with pytest.raises(UsageError, match="do not belong together") as caught:
        joined(pages[0], pages[1], list(other.pages.values())[2])
    assert f"of kit {made.number} share 1 (1.txt), share 2 (2.txt)" in caught.value.message
    assert f"of kit {other.number} share 3 (3.txt)" in caught.value.message
    with pytest.raises(UsageError, match="share 1 stands in this text twice"):
        joined(pages[0] + pages[1] + next(iter(other.pages.values())))


def test_shares_do_not_open_the_key_lines_of_another_kit(made: InShares, pages: list[str]) -> None:
    other = printed()
    words = ["\n".join(lines_with("share", page)) for page in pages]
    with pytest.raises(
        UsageError, match=f"the key lines are of kit {other.number}, and of kit {made.number}"
    ):
        joined(*words, "\n".join(lines_with("key", next(iter(other.pages.values())))))
    with pytest.raises(UsageError, match="key line 1 is as it was written") as caught:
        joined(pages[0] + pages[1], "\n".join(lines_with("key", next(iter(other.pages.values())))))
    assert caught.value.file == "2.txt"


def test_two_kits_of_the_same_number_are_told_apart_when_they_are_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shamir, "_random_identifier", lambda: 20731)
    one, other = (list(printed().pages.values()) for _ in range(2))
    assert joined(*one[:3]).key_file == KEY
    words = "\n".join(lines_with("share", other[2]))
    with pytest.raises(Damaged, match="of two kits"):
        joined(one[0], one[1], words)
    words = "\n".join(line for page in other[:3] for line in lines_with("share", page))
    with pytest.raises(Damaged, match="of two kits"):
        joined("\n".join(lines_with("key", one[0])), words)


# --------------------------------------------------------------------------------------------------- mistyped


def test_every_character_of_a_share_that_is_mistyped_is_found_and_its_line_named(
    pages: list[str],
) -> None:  # fault 58
    chance = random.Random(7)
    lines = lines_with("share", pages[1])
    assert len(lines) == shares.LINES
    for number, line in enumerate(lines, 1):
        at_all = number == 4
        places = [at for at, character in enumerate(line) if character != " " or at_all]
        for at in places if at_all else chance.sample(places, 8):
            wrong = line[:at] + chance.choice("qx7".replace(line[at].lower(), "")) + line[at + 1 :]
            typed = "\n".join([*lines[: number - 1], wrong, *lines[number:]])
            with pytest.raises(Damaged, match=r"share \d+, line \d+ is ") as caught:
                joined(pages[0], typed, pages[2])
            assert caught.value.file == "2.txt"
            if at >= len("share 2 04 "):
                assert caught.value.message.startswith(f"share 2, line {number} is ")


def test_a_word_that_no_share_has_is_named_and_not_repeated(pages: list[str]) -> None:
    line = lines_with("share", pages[0])[6]
    words = line.split()
    typed = pages[0].replace(line, line.replace(f" {words[4]} ", " florian "))
    with pytest.raises(Damaged, match="share 1, line 7 is not as it was written: no share has its word 2"):
        joined(typed, pages[1], pages[2])


def test_words_and_lines_that_changed_places_are_found(pages: list[str]) -> None:
    lines = lines_with("share", pages[0])
    words = lines[7].split()
    swapped = lines[7].replace(f"{words[3]} {words[4]}", f"{words[4]} {words[3]}")
    with pytest.raises(Damaged, match="share 1, line 8 is not as it was written"):
        joined(pages[0].replace(lines[7], swapped), pages[1], pages[2])
    moved = pages[0].replace(lines[8], lines[8].replace("share 1 09", "share 1 10"))
    with pytest.raises(Damaged, match="share 1, line 10 is not as it was written"):
        joined(moved, pages[1], pages[2])
    with pytest.raises(Damaged, match="share 1, line 11 is missing"):
        joined(pages[0].replace(lines[10], ""), pages[1], pages[2])
    renamed = pages[0].replace(lines[2], lines[2].replace("share 1 ", "share 2 "))
    with pytest.raises(Damaged, match="share 2, line 3 is not as it was written"):
        joined(renamed, pages[1], pages[2])


def test_lines_of_two_pages_make_no_share(pages: list[str]) -> None:
    """Each line goes with its check, as when a page was made up of two: the words' own checksum tells."""
    other = next(iter(printed().pages.values()))
    mixed = "\n".join([*lines_with("share", pages[0])[:5], *lines_with("share", other)[5:]])
    with pytest.raises(Damaged, match="each line of share 1 is right and together they are none"):
        joined(mixed, pages[1], pages[2])


def test_a_key_line_that_is_mistyped_is_named_with_its_page(pages: list[str]) -> None:
    line = lines_with("key", pages[2])[4]
    wrong = line[:9] + ("Z" if line[9] != "Z" else "Y") + line[10:]
    with pytest.raises(Damaged, match="key line 5 is not as it was written") as caught:
        joined(pages[0], pages[1], pages[2].replace(line, wrong))
    assert caught.value.file == "3.txt"


# ------------------------------------------------------------------------------------------------- the pages


def test_each_page_says_what_it_is_who_is_to_come_where_the_vault_is_and_what_to_type(
    made: InShares,
) -> None:
    for number, (name, page) in enumerate(made.pages.items(), 1):
        assert name == f"share-{number}-of-5.txt"
        assert f"SHARE {number} OF 5, OF WHICH 3 ARE NEEDED" in page
        assert f"kit        {made.number}" in page and f"the 5 pages of kit {made.number}" in page
        assert re.findall(r"^share (\d+) +(this page|\.+)$", page, re.MULTILINE) == [
            (str(one), "this page" if one == number else "." * 60) for one in range(1, 6)
        ]
        for told in ("vault-1", "support", "s3://eu/support", "slot 3, hash " + "a" * 64, "did not answer"):
            assert told in page
        assert "$ refloat vault keys restore share-*.txt --key support.key" in page
        assert "refloat recover --vault 'file:///u s/vault' --to us" in page
        assert max(map(len, page.splitlines())) <= 100, "it is to be printed"
        assert len(page.splitlines()) < 120


def test_a_page_has_its_own_share_alone_and_no_secret_in_the_open(made: InShares) -> None:
    secrets = re.findall(r'"([0-9a-f]{64})"', KEY.to_bytes().decode())
    public = {KEY.admin_public, *(head.hash for head in KEY.heads.values())}
    for number, page in enumerate(made.pages.values(), 1):
        assert {line.split()[1] for line in lines_with("share", page)} == {str(number)}
        assert [secret for secret in secrets if secret in page and secret not in public] == []
    assert len({tuple(lines_with("key", page)) for page in made.pages.values()}) == 1


def test_the_page_of_a_reader_promises_no_more_than_a_reader_can() -> None:
    page = next(iter(printed(KEY.for_roles(Role.READER)).pages.values()))
    assert "--to" not in page.replace("--to us", "") and "--into" in page
    assert "remove from it" not in page
