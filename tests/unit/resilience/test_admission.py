from __future__ import annotations

import gevent
import pytest

from falcon_wsgi.errors import Overloaded
from falcon_wsgi.resilience.admission import Admission


def test_requests_up_to_the_limit_are_admitted_and_the_next_is_refused() -> None:
    admission = Admission(2, retry_after_s=3.0)
    with admission, admission:
        assert admission.in_flight == 2
        with pytest.raises(Overloaded) as refusal, admission:
            pytest.fail("a third request was admitted")
    assert refusal.value.retry_after_s == 3.0
    assert admission.in_flight == 0


def test_a_refused_request_gives_back_nothing_that_it_did_not_take() -> None:
    admission = Admission(1)
    with admission:
        for _ in range(3):
            with pytest.raises(Overloaded), admission:
                pass
        assert admission.in_flight == 1


def test_a_failing_and_a_killed_request_give_back_their_place() -> None:
    admission = Admission(1)
    with pytest.raises(ValueError, match="no"), admission:
        raise ValueError("no")

    def wait() -> None:
        with admission:
            gevent.get_hub().switch()

    greenlet = gevent.spawn(wait)
    gevent.idle()
    assert admission.in_flight == 1
    greenlet.kill()
    assert admission.in_flight == 0


def test_the_limit_can_be_changed_while_requests_run() -> None:
    admission = Admission(1)
    with admission:
        admission.limit = 2
        with admission:
            admission.limit = 1
            with pytest.raises(Overloaded), admission:
                pass
