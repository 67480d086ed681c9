"""Calendar periods: midnight in a time zone, days of 23 and 25 hours, pacing over a month."""

import zoneinfo
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.budgets.periods import calendar_period, find_timezone

ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
         "America/Sao_Paulo", "Asia/Beirut", "Africa/Cairo", "Pacific/Apia", "UTC"]  # fmt: skip
HOUR = 3600.0
units = st.sampled_from(["day", "week", "month"])


def at(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()


@given(st.floats(0, 4e9), units, st.sampled_from(ZONES))
def test_every_moment_lies_in_one_period_and_the_next_one_starts_where_it_ends(now, unit, zone):
    period = calendar_period(now, unit, zone)
    assert period.start_s <= now < period.end_s < period.expires_s
    after = calendar_period(period.end_s, unit, zone)
    before = calendar_period(period.start_s - 1, unit, zone)
    assert after.start_s == period.end_s
    assert after.end_s == period.expires_s
    assert before.end_s == period.start_s
    assert len({before.label, period.label, after.label}) == 3
    for inside in (period.start_s, period.end_s - 1):
        assert calendar_period(inside, unit, zone).label == period.label


@pytest.mark.parametrize(
    ("moment", "unit", "start", "hours"),
    [
        ("2026-03-28 23:59", "day", "2026-03-28", 24),
        ("2026-03-29 00:00", "day", "2026-03-29", 23),
        ("2026-03-29 12:00", "day", "2026-03-29", 23),
        ("2026-10-25 23:00", "day", "2026-10-25", 25),
        ("2026-10-25 23:00", "week", "2026-10-19", 7 * 24 + 1),
        ("2026-03-01 00:00", "month", "2026-03-01", 31 * 24 - 1),
        ("2024-02-29 13:00", "month", "2024-02-01", 29 * 24),
        ("2026-01-01 00:00", "week", "2025-12-29", 7 * 24),
    ],
)
def test_periods_begin_at_midnight_and_last_as_the_calendar_says(moment, unit, start, hours):
    period = calendar_period(at(moment), unit, "Europe/Berlin")
    assert period.start_s == at(start)
    assert period.end_s - period.start_s == hours * HOUR


def test_a_day_in_berlin_starts_two_hours_before_that_of_utc_in_summer():
    budget = Budget(1.0, period="day", timezone="Europe/Berlin")
    evening = datetime(2026, 7, 1, 21, 59, 59, tzinfo=UTC).timestamp()
    assert budget.account({}, evening).key != budget.account({}, evening + 1).key
    plain = Budget(1.0, period="day")
    assert plain.account({}, evening).key == plain.account({}, evening + 1).key


def test_an_account_is_kept_until_its_next_period_is_over():
    account = Budget(1.0, period="month", timezone="Europe/Berlin").account({}, at("2026-01-31"))
    assert account.expires_s == at("2026-03-01")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"period": "year"}, "period.*day.*week.*month"),
        ({"period": "day", "period_s": 5.0}, "period_s"),
        ({"timezone": "Europe/Berlin"}, "timezone.*period"),
        ({"period": "day", "timezone": "Europe/Berlinn"}, "IANA.*Europe/Berlinn"),
        ({"period": "day", "timezone": "../etc/passwd"}, "IANA"),
        ({"period": "day", "timezone": ""}, "IANA"),
        ({"period": "day", "timezone": "Europe"}, "IANA"),
        ({"period": "day", "per": "user_id", "pace": 1.0}, "pace"),
    ],
)
def test_a_calendar_that_makes_no_sense_is_refused_in_words(fields, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Budget(1.0, **fields)


def test_a_system_without_a_time_zone_database_says_what_to_install(monkeypatch):
    def missing(name):
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    find_timezone.cache_clear()
    with pytest.raises(ValueError, match="pip install tzdata"):
        Budget(1.0, period="day", timezone="Europe/Berlin")
    assert Budget(1.0, period="day").account({}, 0.0) is not None
    find_timezone.cache_clear()


def test_a_budget_of_a_month_is_paced_over_the_month():
    now = [at("2026-02-01", "UTC")]
    budgets = Budgets([Budget(28.0, period="month", pace=10.0)], clock=lambda: now[0])
    account = budgets.budgets[0].account({}, now[0])
    seen = [budgets.lambda_({})]
    for _ in range(200):
        now[0] += 6 * HOUR
        held = budgets.ledger.reserve([account], int(5e8), 1)
        if held is not None:
            budgets.ledger.settle(held, held.granted_nano)
        seen.append(budgets.lambda_({}))
        if now[0] > at("2026-02-04", "UTC"):
            break
    # Two dollars a day where one is fair: λ has risen.
    assert seen[-1] > 2 * seen[0]
    # A clock that was set back does not keep λ where it is.
    now[0] -= 2 * 24 * HOUR
    before = budgets.lambda_({})
    now[0] += 24 * HOUR
    assert budgets.lambda_({}) < before
