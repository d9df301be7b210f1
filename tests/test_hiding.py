"""What of a URL is said, and what is not."""

import pytest

from rigorl.hiding import has_secret, shown

TOLD = [
    ("postgresql://me:hunter2@host/db", "postgresql://...@host/db"),
    ("postgresql://me:hunter2/@host/db", "postgresql://...@host/db"),
    ("postgresql://me:hun#ter2@host/db", "postgresql://...@host/db"),
    ("postgresql://me:hun@ter2@host/db", "postgresql://...@host/db"),
    (
        "postgresql://me@host/db?sslpassword=hunter2&a=b",
        "postgresql://...@host/db?sslpassword=...&a=b",
    ),
    ("postgresql://host/db?pass%77ord=hunter2", "postgresql://host/db?pass%77ord=..."),
    ("https://hunter2@mlflow.example/x", "https://...@mlflow.example/x"),
    ("http://[bad?token=hunter2", "http://[bad?token=..."),
    ("s3://bucket?region=eu&secret_key=hunter2", "s3://bucket?region=eu&secret_key=..."),
]


@pytest.mark.parametrize(("url", "said"), TOLD)
def test_a_secret_in_a_url_is_found_and_not_said_aloud(url: str, said: str) -> None:
    assert has_secret(url)
    assert shown(url) == said
    assert shown(f"API request to {url} failed") == f"API request to {said} failed"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@host/db?passfile=/etc/pgpass&sslkey=/etc/key",
        "postgresql://host:5432/db?application_name=rigorl",
        "sqlite:////shared/me@lab/journal.db",
        "https://mlflow.example:5000/path?page=1",
        "s3://bucket/prefix?endpoint_override=minio:9000",
        "none",
        "~/x",
    ],
)
def test_what_is_no_secret_is_none(url: str) -> None:
    assert not has_secret(url)
    if "@" not in url:
        assert shown(url) == url
