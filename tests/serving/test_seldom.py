"""A log that clients cannot fill."""

import logging

from adaptclip_hf.serving.seldom import Seldom


def test_what_clients_can_repeat_is_told_seldom(caplog):
    log = logging.getLogger("test_seldom")
    seldom = Seldom(seconds=3600)
    log.addFilter(seldom)
    for _ in range(1000):
        log.warning("Invalid HTTP request received.")
    log.warning("another")
    for _ in range(2):
        log.error("each error counts")
    assert [record.msg for record in caplog.records] == [
        "Invalid HTTP request received.",
        "another",
        "each error counts",
        "each error counts",
    ]
    seldom.seconds = 0
    log.warning("Invalid HTTP request received.")
    assert caplog.records[-1].msg == "Invalid HTTP request received. (999 more since the last one was told)"
