from __future__ import annotations

import errno

import pytest

import settings
from engine.idle import IdleTimeout
from handlers.errors import error_text
from handlers.services import Services


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files", "/secret"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
)
def test_system_that_gives_no_more_is_told_with_its_limits(error: Exception) -> None:
    text = error_text(error)
    assert "ran out of memory, threads or open files" in text
    assert "ulimit" in text
    assert "/secret" not in text


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file", "/secret"), KeyError("x"), RuntimeError("x")])
def test_defect_is_told_by_a_number_alone(error: Exception) -> None:
    assert error_text(error).startswith("Internal error ")


def test_idle_timeout_that_cannot_be_asked_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def due_s(self: IdleTimeout, status: object) -> float:
        raise OSError(errno.EMFILE, "Too many open files")

    services = Services(settings.read({}))
    assert services.idle_due_s() is None, "nothing was ever loaded"
    assert services.models.engine().status()
    monkeypatch.setattr(IdleTimeout, "due_s", due_s)
    assert services.idle_due_s() is None
