"""Whatever is done to a trail afterwards is found, and where it was done first."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from app.contracts.trail import BEGINNING, TrailEntryOut, TrailHead, check_chain

LENGTH = 6
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entry(place: int, previous: str, **fields: object) -> TrailEntryOut:
    made = TrailEntryOut.model_validate(
        {
            "id": f"trl_{place:032x}",
            "place": place,
            "tenant": f"tnt_{place % 2:032x}",
            "actor": "command-line",
            "action": "key.created",
            "subject": None,
            "facts": {"scopes": ["é", "b"], "number": 7, "nothing": None},
            "created_at": NOON + timedelta(seconds=place),
            "previous_sha256": previous,
            "sha256": "",
            **fields,
        }
    )
    return made.model_copy(update={"sha256": made.digest()})


@pytest.fixture
def trail() -> list[TrailEntryOut]:
    entries: list[TrailEntryOut] = []
    for place in range(1, LENGTH + 1):
        entries.append(entry(place, entries[-1].sha256 if entries else BEGINNING))
    return entries


def head_of(trail: list[TrailEntryOut]) -> TrailHead:
    return TrailHead(place=trail[-1].place, sha256=trail[-1].sha256, signed_at=NOON)


def test_the_digest_is_of_what_is_documented() -> None:
    """The canonical JSON, written out by hand."""
    made = entry(1, BEGINNING)
    by_hand = (
        '{"action":"key.created","actor":"command-line","created_at":"2026-01-01T12:00:01.000000Z",'
        '"facts":{"nothing":null,"number":7,"scopes":["é","b"]},"id":"trl_00000000000000000000000000000001",'
        f'"place":1,"previous_sha256":"{"0" * 64}","subject":null,'
        '"tenant":"tnt_00000000000000000000000000000001"}'
    )
    assert made.sha256 == hashlib.sha256(by_hand.encode()).hexdigest()
    elsewhere = made.model_copy(update={"created_at": datetime.fromisoformat("2026-01-01T14:00:01+02:00")})
    assert elsewhere.digest() == made.sha256


def test_what_was_left_alone_is_whole(trail: list[TrailEntryOut]) -> None:
    checked = check_chain(trail, [head_of(trail), head_of(trail[:3]), head_of(trail[:1])])
    assert (checked.broken, checked.entries, checked.last_sha256) == (None, LENGTH, trail[-1].sha256)
    empty = TrailHead(place=0, sha256=BEGINNING, signed_at=NOON)
    assert check_chain([], [empty]).broken is None
    again = (TrailEntryOut.model_validate_json(each.model_dump_json()) for each in trail)
    assert check_chain(again).broken is None


def changed(field: str, value: object) -> Callable[[list[TrailEntryOut]], list[TrailEntryOut]]:
    return lambda trail: [*trail[:2], trail[2].model_copy(update={field: value}), *trail[3:]]


def forged(trail: list[TrailEntryOut]) -> list[TrailEntryOut]:
    """Changed, with a digest that fits: the next entry is not chained to it."""
    return [*trail[:2], entry(3, trail[1].sha256, actor="service"), *trail[3:]]


def moved(trail: list[TrailEntryOut]) -> list[TrailEntryOut]:
    """The third and the fourth have changed places, in name too."""
    third = trail[2].model_copy(update={"place": 4})
    return [*trail[:2], trail[3].model_copy(update={"place": 3}), third, *trail[4:]]


def put_in(trail: list[TrailEntryOut]) -> list[TrailEntryOut]:
    later = [each.model_copy(update={"place": each.place + 1}) for each in trail[2:]]
    return [*trail[:2], entry(3, trail[1].sha256, actor="service"), *later]


TAMPERINGS: dict[str, tuple[Callable[[list[TrailEntryOut]], list[TrailEntryOut]], int]] = {
    "actor": (changed("actor", "service"), 3),
    "action": (changed("action", "key.revoked"), 3),
    "tenant": (changed("tenant", None), 3),
    "subject": (changed("subject", "key_1"), 3),
    "facts": (changed("facts", {}), 3),
    "time": (changed("created_at", NOON), 3),
    "id": (changed("id", "trl_7"), 3),
    "digest": (changed("sha256", "0" * 64), 3),
    "forged": (forged, 4),
    "removed": (lambda trail: [*trail[:2], *trail[3:]], 3),
    "first removed": (lambda trail: trail[1:], 1),
    "moved": (moved, 3),
    "twice": (lambda trail: [*trail[:3], *trail[2:]], 4),
    "put in": (put_in, 4),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found_where_it_was_done(trail: list[TrailEntryOut], name: str) -> None:
    tamper, place = TAMPERINGS[name]
    broken = check_chain(tamper(trail)).broken
    assert broken is not None
    assert broken.place == place


def test_a_head_of_before_finds_what_was_cut_off_or_written_anew(trail: list[TrailEntryOut]) -> None:
    assert check_chain(trail[:4]).broken is None
    cut = check_chain(trail[:4], [head_of(trail)]).broken
    assert cut is not None
    assert (cut.place, "cut off" in cut.found) == (5, True)
    anew: list[TrailEntryOut] = []
    for place in range(1, LENGTH + 1):
        anew.append(entry(place, anew[-1].sha256 if anew else BEGINNING, actor="service"))
    assert check_chain(anew).broken is None
    rewritten = check_chain(anew, [head_of(trail[:3])]).broken
    assert rewritten is not None
    assert (rewritten.place, "anew" in rewritten.found) == (3, True)
    # A head that was signed since is not taken for the one from before.
    for heads in ([head_of(trail), head_of(anew)], [head_of(anew), head_of(trail)]):
        rewritten = check_chain(anew, heads).broken
        assert rewritten is not None
        assert rewritten.place == LENGTH


def test_the_entries_of_one_tenant_have_gaps_and_are_checked_each(trail: list[TrailEntryOut]) -> None:
    own = trail[::2]
    assert check_chain(own).broken is not None
    assert check_chain(own, [head_of(trail[:3]), head_of(trail)], whole=False).broken is None
    tampered = [own[0], own[1].model_copy(update={"actor": "x"}), own[2]]
    broken = check_chain(tampered, whole=False).broken
    assert broken is not None
    assert broken.place == own[1].place
