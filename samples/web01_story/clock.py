"""Times and chances of the story: UTC in whole microseconds inside, the host's zone only when written."""

import random
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

BERLIN = ZoneInfo("Europe/Berlin")
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def utc(text):
    """Microseconds since 1970 of `2026-11-02 22:41:03[.5]` UTC."""
    return (datetime.fromisoformat(text).replace(tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1)


def local(text, fold=0):
    """The same of a wall clock in Berlin; `fold` 1 is the second pass of the hour that comes twice."""
    return (datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold) - _EPOCH) // timedelta(microseconds=1)


def in_berlin(t):
    return (_EPOCH + timedelta(microseconds=t)).astimezone(BERLIN)


def in_utc(t):
    return _EPOCH + timedelta(microseconds=t)


class Chance:
    """A seeded source of variety that uses `random()` only: its sequence is fixed for all Python versions."""

    def __init__(self, seed):
        self._random = random.Random(seed).random

    def between(self, low, high):
        """A whole number, both ends included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, items):
        return items[int(self._random() * len(items))]

    def happens(self, share):
        return self._random() < share
