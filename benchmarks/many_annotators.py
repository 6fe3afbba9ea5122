"""200 annotators over the HTTP API, one pick each 10 s, for a minute.

    python -m benchmarks.many_annotators [--annotators 200] [--every 10] [--seconds 60]

A claim of its own rather than a race: no request fails, no pair goes to more annotators than it
wants (its overlap), and a pick with the next pair in the answer is stored within 100 ms at the 95th
percentile. The overlap is counted in the database afterwards, over everything that was shown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import crowd
from benchmarks.report import hold, percentiles_ms, write
from store.database import Store
from tests.served_app import start_app

OVERLAP = """
with given as (
    select e.pair_id, any_value(p.wanted) as wanted, count(distinct e.user_id) as annotators
    from annotator_event e join pair p on p.pair_id = e.pair_id group by e.pair_id
)
select count(*) as pairs, count(*) filter (wanted > 1) as overlapping,
    count(*) filter (annotators > 1) as given_twice, count(*) filter (annotators > wanted) as beyond
from given
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotators", type=int, default=200)
    parser.add_argument("--every", type=float, default=10, help="seconds between picks of one")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        app = start_app(data_dir, PREFLOOP_LOOP__EVERY_PICKS="0")
        try:
            load = crowd.start(
                app.url, app.token, options.annotators, options.every, options.seconds
            )
            found = crowd.report_of(load)
        finally:
            app.stop()
        with Store.open(data_dir) as store:
            overlap = store.read_one(OVERLAP)
    stored = percentiles_ms(found["store_s"])
    errors = sum(found["errors"].values())
    print(f"{found['picks']} picks by {options.annotators} annotators in {options.seconds:.0f} s")
    print(f"pick stored, next pair in hand: p50 {stored['p50']:.1f} ms, p95 {stored['p95']:.1f} ms")
    print(f"errors: {errors} {found['errors'] or ''}; no next pair ready: {found['empty']}")
    print(f"overlap: {overlap}")
    write(
        "many_annotators",
        {"stored": stored, "errors": errors, "empty": found["empty"], "overlap": overlap},
    )
    hold(
        {
            "no error": errors == 0,
            "no pair beyond its overlap": overlap is not None and overlap["beyond"] == 0,
            "p95 of storing a pick below 100 ms": stored["p95"] < 100,
        }
    )


if __name__ == "__main__":
    main()
