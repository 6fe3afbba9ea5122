"""The time of the machine, as a zone that knows when its clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class MachineZone(tzinfo):
    """By TZ or /etc/localtime, as the C library reads them. `astimezone()` alone gives the offset
    of one moment for all times."""

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return _fixed(at).utcoffset() if at else None

    def tzname(self, at: datetime | None) -> str | None:
        return _fixed(at).tzname() if at else None

    def dst(self, at: datetime | None) -> timedelta | None:
        return None

    def fromutc(self, at: datetime) -> datetime:
        moment = at.replace(tzinfo=UTC).timestamp()
        local = datetime.fromtimestamp(moment)  # noqa: DTZ006 - with a zone it loses `fold`
        return local.replace(tzinfo=self)


def _fixed(at: datetime) -> datetime:
    return at.replace(tzinfo=None).astimezone()
