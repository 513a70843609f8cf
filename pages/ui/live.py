"""One job on a page: a button that starts and stops it, and a view that is drawn again and again until it has ended.

Every page, and every chart that computes, has a job under a key of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import streamlit as st
from streamlit import runtime as server
from streamlit.runtime.scriptrunner import get_script_run_ctx

from invlib import engines, runtime
from invlib.jobs import Job, JobQueue, Refused, Status, Work
from pages.ui import pixels

POLL = timedelta(seconds=0.7)

PATIENCE = 0.7
"""Seconds for which a page waits for a job to end, when it was told to stop, or for a run that is short."""

GRACE = "INVLIB_GRACE"
"""The environment variable that says after how many seconds the job of a closed session is cancelled."""


@dataclass(frozen=True)
class Submission:
    """A job and what it was asked to do. The page's knobs may have changed since."""

    job: Job[Any, Any]
    request: Any

    @property
    def active(self) -> bool:
        return not self.job.ended


@st.cache_resource
def queue() -> JobQueue:
    """The queue of this process. There is one, because the process uses one device, or one cluster."""
    runtime.set_threads()
    engine = engines.engine()
    grace = float(os.environ.get(GRACE, 10))
    return JobQueue(grace=grace, at_once=4 * engine.workers, turn=engine.turn, devices=engine.workers)


def last(key: str) -> Submission | None:
    """The last job that was started under a key, if there was one."""
    return st.session_state.get(f"submission {key}")


def button(
    key: str,
    label: str,
    icon: str,
    work: Work[Any, Any],
    request: Any,
    *,
    widget: str,
    ready: bool = True,
    seconds: float | None = None,
) -> None:
    """Show a button that starts work, or stops the job while it is under way.

    Parameters
    ----------
    key : the job's key.
    label, icon : what the button shows before the job starts.
    work, request : what is to be done, as a function and as data for whoever shows the job.
    widget : the key of the button itself.
    ready : whether there is anything to do. If not, the button is disabled.
    seconds : how long the work will take, if that is known.
    """
    submission = last(key)
    if submission is not None and submission.active:
        job, stopping = submission.job, submission.job.cancelling
        label = "Stopping" if stopping else "Stop"
        st.button(label, icon=":material/stop:", width="stretch", disabled=stopping, on_click=stop, args=[job])
    elif st.button(label, icon=icon, type="primary", width="stretch", key=widget, disabled=not ready):
        submit(key, work, request, seconds)


def stop(job: Job[Any, Any]) -> None:
    """Cancel a job. It ends within a step, in most cases before the page is drawn again."""
    job.cancel()
    job.wait(PATIENCE)


def submit(key: str, work: Work[Any, Any], request: Any, seconds: float | None = None, *, wait: bool = False) -> None:
    """Queue work that takes so many seconds and draw the page again, or say on the page why it was refused.

    With `wait`, work that is done in `PATIENCE` is waited for instead, and the page goes on being drawn.
    """
    try:
        job = queue().submit(session(), work, alive=presence(), visitor=visitor(), seconds=seconds)
    except Refused as refusal:
        st.error(pixels.sentence(refusal))
        return
    st.session_state[f"submission {key}"] = Submission(job, request)
    if not wait:
        st.rerun()
    job.wait(PATIENCE)


def prepare(key: str, work: Work[Any, Any], request: Any, about: str) -> None:
    """Do work that the page cannot be drawn without. Until it is done, the page shows `about` and ends here.

    It waits in the queue like a run, beside the session's own. ValueError if it is refused or fails.
    """
    submission = last(key)
    if submission is None or submission.request != request:
        try:
            job = queue().submit(f"{session()} {key}", work, alive=presence(), visitor=visitor())
        except Refused as refusal:
            raise ValueError(str(refusal)) from None
        job.wait(PATIENCE)
        submission = st.session_state[f"submission {key}"] = Submission(job, request)
    if submission.active:
        job = submission.job
        watch(submission, lambda: st.caption(waiting(job) if job.status is Status.WAITING else about))
        st.stop()
    del st.session_state[f"submission {key}"]
    if submission.job.status is not Status.DONE:
        raise ValueError(submission.job.error or "this was stopped: choose it again")


def session() -> str:
    context = get_script_run_ctx()
    return "" if context is None else context.session_id


def visitor() -> str:
    """Who looks at the page in this session, and perhaps in others: the address of the browser, if it is known.

    Behind a proxy it stands first in a header. On this machine there is none, and a session counts as a visitor.
    """
    if not server.exists():
        return session()
    return address(st.context.headers, st.context.ip_address) or session()


def address(headers: Mapping[str, str], host: str | None) -> str | None:
    """The address that a request comes from. A proxy puts it first in a header, and its own address is `host`."""
    return (headers.get("X-Forwarded-For") or "").partition(",")[0].strip() or host


def presence() -> Callable[[], bool]:
    """A predicate that says whether this session's browser is still connected. A hidden tab counts as connected."""
    if not server.exists():
        return lambda: True
    instance, name = server.get_instance(), session()
    return lambda: instance.is_active_session(name)


def follow(key: str, look: Callable[[Submission], None]) -> None:
    """Show the job of a key, if there is one, again and again until it has ended."""
    if (submission := last(key)) is not None:
        watch(submission, look, submission)


def watch(submission: Submission | None, look: Callable[..., None], *arguments: Any) -> None:
    """Call `look` with the arguments, and go on calling it while the job is under way."""
    active = submission is not None and submission.active

    def once() -> None:
        if active and submission is not None and not submission.active:
            st.rerun()  # The whole page: the results change, and nobody needs to look again.
        look(*arguments)

    st.fragment(once, run_every=POLL if active else None)()


def show_error(job: Job[Any, Any]) -> None:
    """Show why a job failed, if it did."""
    if job.error is not None:
        st.error(pixels.sentence(job.error), icon=":material/error:")


def waiting(job: Job[Any, Any]) -> str:
    """Say in a sentence how long a job will wait, or where it is in the queue."""
    if not job.position:
        return "Starting."
    if job.delay is not None:
        return f"Waiting: about {pixels.plural(max(1, round(job.delay)), 'second')}."
    return f"Waiting: {job.position} {'run is' if job.position == 1 else 'runs are'} ahead."
