"""Calendar periods of budgets: days, weeks and months in a named time zone."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal

__all__ = ["CalendarUnit", "Period", "calendar_period", "find_timezone", "fixed_period"]

CalendarUnit = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Period:
    """One period of a budget.

    Args:
        label: Text that no other period of the same kind has.
        start_s: Unix time of its start.
        end_s: Unix time of its end, where the next one starts.
        expires_s: Unix time of the end of the next one, until which its account is kept.
    """

    label: str
    start_s: float
    end_s: float
    expires_s: float


def fixed_period(now: float, length_s: float) -> Period:
    """Return the period of a fixed length that a time lies in; they begin at multiples of it."""
    number = int(now // length_s)
    label = f"{float(length_s)!r}s {number}"
    return Period(label, number * length_s, (number + 1) * length_s, (number + 2) * length_s)


def calendar_period(now: float, unit: CalendarUnit, timezone: str) -> Period:
    """Return the day, week (from Monday) or month that a time lies in.

    Days on which clocks are changed have 23 or 25 hours.

    Args:
        now: Unix time.
        unit: Kind of the period.
        timezone: Name of a time zone, such as `"Europe/Berlin"`.
    """
    zone = find_timezone(timezone)
    day = datetime.fromtimestamp(now, zone).date()
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    starts = [day, _next(day, unit), _next(_next(day, unit), unit)]
    start, end, expires = (
        datetime(one.year, one.month, one.day, tzinfo=zone).timestamp() for one in starts
    )
    return Period(f"{unit} {day.isoformat()} {timezone}", start, end, expires)


def _next(day: date, unit: CalendarUnit) -> date:
    if unit == "month":
        return (day + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=1 if unit == "day" else 7)


@lru_cache
def find_timezone(name: str) -> tzinfo:
    """Return a time zone by its name in the IANA database.

    Raises:
        ValueError: If there is no such time zone, or no database.
    """
    if name == "UTC":
        # Also known where there is no database.
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        if len(zoneinfo.available_timezones()) == 0:
            msg = (
                f"`timezone` is {name!r}, but this system has no time zone database: run `pip "
                "install tzdata`, or use 'UTC'."
            )
            raise ValueError(msg) from error
        msg = (
            "`timezone` must be a name of the IANA time zone database such as 'Europe/Berlin' or "
            f"'UTC', got {name!r}."
        )
        raise ValueError(msg) from error
