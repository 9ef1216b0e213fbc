"""Events told to receivers, as CloudEvents: one courier for each, so that a dead receiver holds up nobody else.

What is owed is kept beside the events in the store, and a delivery is claimed for a while before it is tried: none is
lost with a process, and of several controllers one delivers. A receiver may hear of an event twice, by the same id.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, get_args

import httpx
import msgspec

from penstock.control.changes import Change
from penstock.control.outbox import Delivery
from penstock.controller.cloud_events import cloud_event, signed
from penstock.errors import SettingsError, StateUnavailable
from penstock.settings import Settings, WebhookSettings

_LOG = logging.getLogger("penstock")

KINDS: Final = tuple(str(kind.__struct_config__.tag) for kind in get_args(Change))

_OF_THE_EVENT: Final = frozenset({400, 409, 413, 415, 422})
"""What a receiver says of one event; everything else is of itself, and would be said of the next one, too."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often it is looked, how long a receiver may take, and how long it is left alone when it did not answer well.

    `lease_s` is how long a delivery is one courier's own: longer than an attempt can take.
    """

    poll_s: float = 1.0
    timeout_s: float = 10.0
    lease_s: float = 60.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 3600.0
    database_s: float = 5.0

    def wait_s(self, failed: int, chance: float) -> float:
        """After `failed` (from 1) attempts: doubled each time, spread over its upper half by `chance`."""
        doubled_s = self.first_wait_s * 2.0 ** min(failed - 1, 30)
        return min(doubled_s, self.longest_wait_s) * (0.5 + chance / 2)


PACE: Final = Pace()


class Outbox(Protocol):
    """What receivers have yet to hear of."""

    def deliveries_due(self, receiver: str, at: datetime, *, lease_s: float, limit: int) -> list[Delivery]:
        """Events that `receiver` is to be told of now, in order, and nobody else's for `lease_s`."""
        ...

    def delivered(self, revision: int, receiver: str, at: datetime) -> None:
        """`receiver` has taken the event, or is not to be told of it."""
        ...

    def failed(self, revision: int, receiver: str, next_at: datetime, why: str) -> None:
        """`receiver` has not taken the event, which is due again at `next_at`."""
        ...


class Refused(Exception):
    """An event was not taken, and why. `is_of_event`: it may take the next one; `after_s` is its own wish."""

    def __init__(self, why: str, *, is_of_event: bool = False, after_s: float = 0.0) -> None:
        self.is_of_event, self.after_s = is_of_event, after_s
        super().__init__(why)


class Courier:
    """Tells one receiver of events, one after the other. `run` in a thread of its own; `stop` from any."""

    def __init__(
        self,
        name: str,
        receiver: WebhookSettings,
        outbox: Outbox,
        *,
        pace: Pace = PACE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        unknown = sorted(set(receiver.kinds) - set(KINDS))
        if unknown:
            raise SettingsError(
                f"Expected some of {', '.join(KINDS)}, got {', '.join(unknown)} - at `webhooks.{name}.kinds`"
            )
        try:
            httpx.URL(receiver.url)
        except httpx.InvalidURL as error:
            raise SettingsError(f"Expected a URL, got one that is none ({error}) - at `webhooks.{name}.url`") from error
        self._name, self._receiver, self._outbox = name, receiver, outbox
        self._pace, self._clock, self._chance = pace, clock, chance
        self._is_over = threading.Event()
        self._is_failing = False

    def run(self) -> None:
        """Deliver until `stop`; the database and the receiver may come and go."""
        # Only the configured URL is asked: no proxy of the environment's, no redirect.
        with httpx.Client(timeout=self._pace.timeout_s, follow_redirects=False, trust_env=False) as client:
            wait_s, said = 0.0, ""
            while not self._is_over.wait(wait_s):
                try:
                    wait_s = self._step(client)
                    said = ""
                except StateUnavailable as error:
                    if said != str(error):
                        _LOG.error("webhook %s: what is due cannot be read: %s", self._name, error)
                    said, wait_s = str(error), self._pace.database_s
                except Exception:  # the edge of the thread: the next event may go well
                    _LOG.exception("webhook %s: a delivery failed", self._name)
                    wait_s = self._pace.database_s

    def stop(self) -> None:
        """End `run` after the delivery that is under way; what is still owed is delivered by the next one."""
        self._is_over.set()

    def _step(self, client: httpx.Client) -> float:
        """Deliver what is due first, and say how long to rest before the next look."""
        due = self._outbox.deliveries_due(self._name, self._clock(), lease_s=self._pace.lease_s, limit=1)
        if not due:
            return self._pace.poll_s
        [delivery] = due
        if self._receiver.kinds and delivery.event.kind not in self._receiver.kinds:
            self._outbox.delivered(delivery.event.revision, self._name, self._clock())
            return 0.0
        try:
            self._tell(client, delivery)
        except Refused as refused:
            return self._again(delivery, refused)
        self._outbox.delivered(delivery.event.revision, self._name, self._clock())
        if self._is_failing:
            self._is_failing = False
            _LOG.info("webhook %s: takes events again", self._name)
        return 0.0

    def _tell(self, client: httpx.Client, delivery: Delivery) -> None:
        """POST the event. Raises Refused unless the receiver answers 2xx."""
        body, headers = cloud_event(delivery.event)
        if self._receiver.secret is not None:
            headers |= signed(self._receiver.secret, headers["webhook-id"], body, at=self._clock())
        try:
            with client.stream("POST", self._receiver.url, content=body, headers=headers) as response:
                status, after = response.status_code, response.headers.get("retry-after", "")
        except httpx.HTTPError as error:
            raise Refused(str(error) or type(error).__name__) from error
        if status // 100 != 2:
            why = f"it answers {status}"
            if status // 100 == 3:
                why += ", and no redirect is followed: put the last URL into the settings"
            after_s = float(after) if after.isdecimal() and len(after) < 10 else 0.0
            raise Refused(why, is_of_event=status in _OF_THE_EVENT, after_s=after_s)

    def _again(self, delivery: Delivery, refused: Refused) -> float:
        wait_s = self._pace.wait_s(delivery.attempts, self._chance())
        wait_s = min(max(wait_s, refused.after_s), self._pace.longest_wait_s)
        if refused.is_of_event or not self._is_failing:
            _LOG.warning(
                "webhook %s: event %d was not taken (attempt %d): %s; again in %.0f s",
                self._name,
                delivery.event.revision,
                delivery.attempts,
                refused,
                wait_s,
            )
        self._is_failing = self._is_failing or not refused.is_of_event
        again_at = self._clock() + timedelta(seconds=wait_s)
        self._outbox.failed(delivery.event.revision, self._name, again_at, str(refused))
        # A receiver that is away is left alone altogether; one that refuses an event may take the next one.
        return 0.0 if refused.is_of_event else wait_s


def couriers(settings: Settings, outbox: Outbox) -> list[Courier]:
    """A courier for each receiver of the settings. Raises SettingsError for kinds of events that there are not."""
    return [Courier(name, receiver, outbox) for name, receiver in settings.webhooks.items()]
