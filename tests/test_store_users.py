"""Users and their secrets."""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from store import people, users
from store.database import Store
from store.opening import MIGRATIONS, migrate
from store.rows import Conflict, Invalid, NotFound, Role, utc_now
from tests.stored import add_user, count


def test_only_the_hash_of_a_secret_is_stored(store: Store) -> None:
    ann = add_user(store, "ann")
    secret = users.issue(store, ann.user_id, "api", "laptop")
    assert len(secret) >= 43, "256 bits"
    assert users.holder(store, secret, "api") == ann
    assert secret not in str(store.read("select * from api_token"))
    for path in store.data_dir.iterdir():
        assert secret.encode() not in path.read_bytes()


def test_a_secret_is_good_for_its_own_kind_only(store: Store) -> None:
    ann = add_user(store, "ann")
    token = users.issue(store, ann.user_id, "api")
    assert users.holder(store, token, "login") is None
    assert users.spend(store, token, "link") is None
    assert users.holder(store, token, "api") == ann, "and trying does not end it"
    assert users.holder(store, token + "x", "api") is None


def test_a_link_is_spent_once(store: Store) -> None:
    ann = add_user(store, "ann")
    link = users.issue(store, ann.user_id, "link")
    assert users.spend(store, link, "link") == ann
    assert users.spend(store, link, "link") is None
    assert users.holder(store, link, "link") is None


def test_of_simultaneous_spenders_one_wins(store: Store) -> None:
    ann = add_user(store, "ann")
    for _ in range(5):
        link = users.issue(store, ann.user_id, "link")
        with ThreadPoolExecutor(8) as pool:
            won = pool.map(lambda _, link=link: users.spend(store, link, "link"), range(8))
            assert [user for user in won if user] == [ann]


def test_a_disabled_user_is_out_at_once(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    secrets = {kind: users.issue(store, ann.user_id, kind) for kind in ("api", "link", "login")}
    of_bob = users.issue(store, bob.user_id, "api")
    users.set_access(store, ann.user_id, active=False)
    for kind, secret in secrets.items():
        assert users.holder(store, secret, kind) is None
        assert users.spend(store, secret, kind) is None
    later = users.issue(store, ann.user_id, "login")
    assert users.holder(store, later, "login") is None
    assert not users.named(store, "ann").may("annotator")
    assert users.holder(store, of_bob, "api") == bob


def test_an_expired_secret_is_worth_nothing(store: Store) -> None:
    ann = add_user(store, "ann")
    link = users.issue(store, ann.user_id, "link")
    assert users.holder(store, link, "link") == ann
    past = {"past": utc_now() - timedelta(seconds=1)}
    store.write(lambda tx: tx.all("update api_token set expires = $past", past))
    assert users.holder(store, link, "link") is None
    assert users.spend(store, link, "link") is None


def test_links_and_sign_ins_expire_and_tokens_do_not(store: Store) -> None:
    ann = add_user(store, "ann")
    for kind in ("api", "link", "login"):
        users.issue(store, ann.user_id, kind)
    lives = store.read("select kind, expires - created as life from api_token order by kind")
    assert [(row["kind"], row["life"]) for row in lives] == [
        ("api", None),
        ("link", timedelta(days=1)),
        ("login", timedelta(days=30)),
    ]


def test_tokens_end_by_label(store: Store) -> None:
    ann = add_user(store, "ann")
    old = users.issue(store, ann.user_id, "api", "app.json")
    other = users.issue(store, ann.user_id, "api", "laptop")
    users.end_tokens(store, ann.user_id, "app.json")
    new = users.issue(store, ann.user_id, "api", "app.json")
    live = [users.holder(store, secret, "api") for secret in (old, other, new)]
    assert live == [None, ann, ann]


def test_a_name_is_taken_once(store: Store) -> None:
    add_user(store, "ann")
    with pytest.raises(Conflict, match="already a user named 'ann'"):
        add_user(store, "ann", "admin")
    assert users.named(store, "ann").role == "annotator"


def test_many_threads_may_ensure_one_user(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda _: users.ensure(store, "import", "annotator", "import"), range(8))
        )
    assert len({user.user_id for user in made}) == 1
    assert count(store, "app_user") == 1


@pytest.mark.parametrize(
    "name", ["", " ann", "a" * 65, "ann\n", "<b>", "a\u202eb", "a/b", "-ann", "a\u200bb"]
)
def test_bad_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(Invalid, match="1 to 64"):
        add_user(store, name)


def test_an_unknown_role_is_refused(store: Store) -> None:
    with pytest.raises(Invalid, match="annotator, researcher, admin"):
        add_user(store, "ann", "owner")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["王小明", "Änne Müller", "हिन्दी", "ann@example.org"])
def test_names_of_any_script_are_fine(store: Store, name: str) -> None:
    add_user(store, unicodedata.normalize("NFD", name))
    assert users.named(store, name).name == unicodedata.normalize("NFC", name)


def test_an_unknown_name_is_answered_with_the_known_ones(store: Store) -> None:
    with pytest.raises(NotFound, match="Users: none yet"):
        users.named(store, "eve")
    add_user(store, "ann")
    with pytest.raises(NotFound, match=r"no user 'eve'\. Users: ann"):
        users.named(store, "eve")


@pytest.mark.parametrize(
    ("role", "may"), [("annotator", "a"), ("researcher", "ar"), ("admin", "ara")]
)
def test_each_role_may_do_what_the_roles_before_it_may(store: Store, role: Role, may: str) -> None:
    user = add_user(store, "ann", role)
    roles: tuple[Role, ...] = ("annotator", "researcher", "admin")
    assert "".join(known[0] for known in roles if user.may(known)) == may


def test_a_change_is_journaled_and_the_newest_one_counts(tmp_path: Path) -> None:
    """As after a crash that lost the end of the database, and after one that lost the journal's."""
    data_dir = tmp_path / "data"
    with Store.open(data_dir) as store:
        ann = add_user(store, "ann")
        users.set_access(store, ann.user_id, role="researcher")
    older = {file.name: file.read_bytes() for file in data_dir.glob("*") if file.is_file()}
    with Store.open(data_dir) as store:
        users.set_access(store, ann.user_id, active=False)
        users.set_goal(store, ann.user_id, 90)
        users.set_access(store, ann.user_id, active=True)
        users.set_access(store, ann.user_id, role="annotator")
        newest = users.named(store, "ann")
    for lost in ("prefloop.duckdb", "journal.jsonl"):
        kept = {name: (data_dir / name).read_bytes() for name in older}
        (data_dir / lost).write_bytes(older[lost])
        with Store.open(data_dir) as store:
            assert users.named(store, "ann") == newest
            assert store.read("select count(*) as n from app_user") == [{"n": 1}]
        for name, content in kept.items():
            (data_dir / name).write_bytes(content)


def test_secrets_of_an_earlier_schema_go_on(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "prefloop.duckdb")) as root:
        first = tmp_path / "first"
        first.mkdir()
        shutil.copy(MIGRATIONS / "0001_facts.sql", first)
        migrate(root, first)
        digest = hashlib.sha256(b"secret").hexdigest()
        root.execute(
            "insert into app_user values ('u1', 1, 'ann', 'admin', 'human', true, ?)", [utc_now()]
        )
        root.execute(
            "insert into api_token values (?, 'u1', 'laptop', 'api', ?, null, null)",
            [digest, utc_now()],
        )
    with Store.open(tmp_path) as store:
        ann = users.holder(store, "secret", "api")
        assert ann is not None and (ann.name, ann.languages, ann.goal) == ("ann", (), None)
        [token] = people.api_tokens(store, ann.user_id)
        assert (token.label, token.tail) == ("laptop", None)
        users.end_token(store, ann.user_id, token.token_id)
        assert users.holder(store, "secret", "api") is None
