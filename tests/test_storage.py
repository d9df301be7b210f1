"""Where trials keep things: what a person may write, and what any such place owes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from rigorl.checkpoint import Folder, Place, find, leave, newest, try_out, write
from rigorl.checkpoint.sealed import Sum, read, seal, verify
from rigorl.errors import SpecError, StorageError
from rigorl.outside import bucket
from rigorl.outside.bucket import Address, address, located, opened

VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION")


@pytest.fixture(autouse=True)
def _nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("s3://mine", Address("mine")),
        ("s3://mine/", Address("mine")),
        ("s3://mine/a/b/", Address("mine/a/b")),
        ("s3://mine//a///b", Address("mine/a/b")),
        ("s3://mine/a?region=eu-west-3", Address("mine/a", region="eu-west-3")),
        (
            "s3://mine/a?endpoint_override=minio:9000&scheme=http",
            Address("mine/a", "minio:9000", "http"),
        ),
        ("s3://mine?endpoint_override=http://minio:9000/", Address("mine", "minio:9000", "http")),
        ("s3://mine?endpoint_override=minio", Address("mine", "minio", "https")),
    ],
)
def test_a_bucket_is_where_its_url_says(url: str, meant: Address) -> None:
    assert address(url) == meant


def test_what_the_url_does_not_say_the_variables_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general:1")
    assert address("s3://mine") == Address("mine", "general:1", "http")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://special")
    monkeypatch.setenv("AWS_REGION", "here")
    assert address("s3://mine") == Address("mine", "special", "https", "here")
    said = address("s3://mine?endpoint_override=minio:9000&scheme=http&region=there")
    assert said == Address("mine", "minio:9000", "http", "there")
    assert str(said) == "s3://mine at minio:9000"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://mine/a", "a folder or s3://bucket/prefix, but is gs://mine"),
        ("s3:///a", "a folder or s3://bucket/prefix"),
        ("s3://mine/a#b", "a folder or s3://bucket/prefix"),
        ("file:///a", "a folder or s3://bucket/prefix"),
        ("s3://[mine/a", "a folder or s3://bucket/prefix, but is s3://[mine/a"),
        ("s3://mine?scheme=ftp", "must be http or https, but is 'ftp'"),
        ("s3://mine/a?regoin=x", "no setting 'regoin'; did you mean 'region'"),
        ("s3://mine?secret_key=hidden", "no setting 'secret_key'"),
        ("s3://key:hidden@mine/a", "without credentials"),
        ("s3://mine/a?endpoint_override=http://key:hidden@minio", "without credentials"),
    ],
)
def test_what_is_no_place_is_refused_and_secrets_are_not_told(url: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        opened(url)
    assert said in str(error.value)
    assert "hidden" not in str(error.value)


def test_all_else_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert opened("here/trials") == opened(Path("here/trials")) == Folder(Path("here/trials"))
    assert located("here/trials") == located(Path("here/trials")) == f"{tmp_path}/here/trials"
    assert located("s3://mine/a?region=x") == "s3://mine/a?region=x"


def test_a_token_is_found_once_and_nothing_stays(tmp_path: Path) -> None:
    store = Folder(tmp_path / "trials")
    leave(store, "theirs")
    leave(store, "ours")
    assert not find(Folder(tmp_path / "else"), "theirs")
    seen = [find(store, token) for token in ("theirs", "theirs", "ours", "never")]
    assert seen == [True, False, True, False]
    try_out(store)
    assert list(store.path.iterdir()) == []


def test_a_token_of_which_only_a_part_has_come_is_not_found(tmp_path: Path) -> None:
    leave(Folder(tmp_path), "x")
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.write_bytes(b"{")
    assert not find(Folder(tmp_path), "x")


class Forgetful(Folder):
    """A place that takes everything and shows nothing."""

    def below(self, name: str) -> "Forgetful":
        return Forgetful(self.path / name)

    @contextmanager
    def lent(self, name: str) -> Iterator[Path | None]:
        yield None


def test_a_place_that_does_not_show_what_was_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there once it is written, but .* does not show it"):
        try_out(Forgetful(tmp_path))


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        try_out(Folder(tmp_path / "file"))


def test_a_checkpoint_that_goes_while_it_is_read_is_not_gone_on_from(tmp_path: Path) -> None:
    write(Folder(tmp_path), Place(step=1), None)
    with newest(Forgetful(tmp_path)) as found:
        assert found.name is None
        assert found.note == "checkpoint-0000-000000000001 is corrupt: it is gone; began anew"


def test_only_checkpoints_make_place_for_checkpoints(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    with store.appearing("policies"):
        pass
    for step in range(1, 5):
        write(store, Place(step=step), None)
    ours = ["checkpoint-0000-000000000003", "checkpoint-0000-000000000004", "policies"]
    assert store.names() == ours


def test_what_is_known_is_not_read_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    known = {"b": Sum(size=7, blake2b="as it was"), "gone": Sum(size=1, blake2b="")}
    assert seal(tmp_path, known, lasting=False) == ["a"]
    listed = read((tmp_path / "manifest.json").read_bytes())
    assert listed.keys() == {"a", "b"}
    assert listed["b"] == known["b"]
    assert verify(tmp_path) == "b has 1 bytes where 7 were written"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_a_manifest_lists_only_what_is_below_it(name: str, tmp_path: Path) -> None:
    manifest = msgspec.json.encode({name: Sum(size=1, blake2b="")})
    with pytest.raises(ValueError, match="is outside"):
        read(manifest)
    (tmp_path / "manifest.json").write_bytes(manifest)
    assert str(verify(tmp_path)).startswith("manifest.json cannot be read")


def test_credentials_in_a_variable_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://key:hidden@minio:9000")
    with pytest.raises(SpecError, match="without credentials") as error:
        address("s3://mine/a")
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (
            "AWS Error UNKNOWN (HTTP status 400): Unable to parse ExceptionName: ExpiredToken hidden",
            "its credentials have expired; renew them on every node",
        ),
        ("AWS Error SLOW_DOWN during PutObject operation: hidden", "SLOW_DOWN; see to the bucket"),
        ("hidden", "an error without a name"),
    ],
)
def test_what_the_store_refuses_is_told_in_our_words(theirs: str, said: str) -> None:
    with pytest.raises(StorageError, match=said) as error, bucket._blaming("s3://mine"):
        raise OSError(theirs)
    assert "hidden" not in str(error.value)
