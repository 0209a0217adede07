"""Tests of what is optional are skipped with what to install, and never where it has been installed."""

import types

import optional
import pytest


def test_what_is_missing_is_skipped_with_what_to_install(monkeypatch):
    monkeypatch.delenv("FASTCOV_REQUIRED", raising=False)
    monkeypatch.setattr(optional.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match=r'torch: pip install -e "\.\[peers\]"'):
        optional.needs("torch")
    assert optional.needing("jax").args == (True,)
    assert optional.needing(None).args == (False,)


def test_what_has_been_installed_is_not_skipped_whatever_is_wrong_with_it(monkeypatch):
    monkeypatch.setenv("FASTCOV_REQUIRED", "torch no_such_library chromium")
    monkeypatch.setattr(optional.shutil, "which", lambda name: None)
    assert optional.absent("chromium") is None
    assert optional.needing("no_such_library").args == (False,)
    with pytest.raises(ModuleNotFoundError):
        optional.needs("no_such_library")


def test_only_what_is_skipped_for_want_of_a_library_is_noted(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTCOV_SKIPPED", str(tmp_path / "skipped"))
    for name, skipped, reason in (
        ("a", True, f"Skipped: {optional.ABSENT}torch: {optional.PEERS}"),
        ("b", True, "Skipped: it has none"),
        ("c", False, optional.ABSENT),
    ):  # fmt: skip
        optional.note(types.SimpleNamespace(nodeid=name, skipped=skipped, longrepr=("file", 1, reason)))
    assert (tmp_path / "skipped").read_text() == "a\n"
