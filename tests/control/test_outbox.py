"""What webhooks have yet to hear of: none lost, none twice at once, from when a receiver is known."""

from __future__ import annotations

from datetime import timedelta

from store_contract import FIRST, OpensStore, event

from penstock.control.outbox import Delivery

NOW = FIRST + timedelta(hours=1)
MINUTE = timedelta(minutes=1)
HOOK = "https://example.org/hook"


def test_from_now_on(opens: OpensStore) -> None:
    """A receiver hears of what happens after it was first asked for, once, in order."""
    store = opens()
    assert [] == store.deliveries_due("early", NOW)
    store.append([event(1), event(2)])
    assert [] == store.deliveries_due(HOOK, NOW)
    store.append([event(3), event(4)])
    assert [Delivery(event(3), HOOK, 1), Delivery(event(4), HOOK, 1)] == store.deliveries_due(HOOK, NOW)
    assert [1, 2, 3, 4] == [due.event.revision for due in store.deliveries_due("early", NOW)]
    for revision in (3, 4):
        store.delivered(revision, HOOK, NOW)
    assert [] == store.deliveries_due(HOOK, NOW + 1000 * MINUTE)


def test_again_after_a_failure(opens: OpensStore) -> None:
    """What was not taken is due when it is said to be, and not before; the attempts are counted."""
    store = opens()
    store.deliveries_due(HOOK, NOW)
    store.append([event(1), event(2)])
    assert [Delivery(event(1), HOOK, 1)] == store.deliveries_due(HOOK, NOW, limit=1)
    store.failed(1, HOOK, NOW + 5 * MINUTE, "503\0" + "x" * 1000)
    assert [Delivery(event(2), HOOK, 1)] == store.deliveries_due(HOOK, NOW + 2 * MINUTE)
    store.delivered(2, HOOK, NOW)
    assert [] == store.deliveries_due(HOOK, NOW + 4 * MINUTE)
    assert [Delivery(event(1), HOOK, 2)] == store.deliveries_due(HOOK, NOW + 5 * MINUTE)


def test_several_controllers(opens: OpensStore) -> None:
    """What one controller has taken is no other's until its lease ends, as it does when that one dies."""
    one, other = opens(), opens()
    one.deliveries_due(HOOK, NOW)
    other.append([event(number) for number in range(1, 6)])
    taken = one.deliveries_due(HOOK, NOW, lease_s=60, limit=2)
    assert [1, 2] == [due.event.revision for due in taken]
    assert [3, 4, 5] == [due.event.revision for due in other.deliveries_due(HOOK, NOW, lease_s=300)]
    one.delivered(1, HOOK, NOW)
    assert [Delivery(event(2), HOOK, 2)] == other.deliveries_due(HOOK, NOW + MINUTE)
