"""The lock of a folder: one at a time, taken again by its holder, gone afterwards; a share without locks is named."""

import errno
import os
import threading
import time

import pytest

from adaptclip_hf.files import NoLocksError, locked


def refusal(folder) -> str:
    """What another thread is told."""
    said = []

    def ask():
        try:
            with locked(folder, "`adaptclip fit`"):
                said.append("")
        except ValueError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return said[0]


def test_one_at_a_time_and_its_holder_again(tmp_path):
    folder = tmp_path / "new" / "one"
    with locked(folder, "me"):
        with locked(folder, "me"):
            assert "`adaptclip fit` is writing to" in refusal(folder)
        assert str(folder) in refusal(folder)
    assert refusal(folder) == "" and not list(folder.iterdir())


def test_those_who_wait_get_it_one_after_the_other(tmp_path):
    counted = [0]

    def count():
        for _ in range(20):
            with locked(tmp_path, "me", wait=-1):
                before = counted[0]
                time.sleep(0.0005)
                counted[0] = before + 1

    threads = [threading.Thread(target=count) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert counted == [60]


def test_a_share_without_locks_is_named(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(NoLocksError, match=r"\.lock cannot be locked .*no locks.* mount the share with locks"):
        locked(tmp_path, "me").__enter__()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Nothing can be written to .*file .*name another folder"):
        locked(tmp_path / "file", "me").__enter__()
