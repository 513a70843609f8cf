"""The app and its interface for programs as one server: run it with `streamlit run server.py`.

The page itself is `app.py`. Before the server says that it is healthy, everything that a page may need is imported, and
the network of the first page has run once.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

# Before PyTorch is loaded: threads that wait for one another should leave their core to whoever else wants it, the
# server or a browser on the same machine. A run beside a browser on two cores takes two thirds of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import anyio.to_thread
import streamlit as st

import api

APP = Path(__file__).with_name("app.py")

LATE = (
    "pandas",
    "pyarrow.pandas_compat",
    "plotly.graph_objects",
    "plotly.offline",
    "invlib.experiments.report",
    "tifffile",
)
"""What is imported when a page first shows a table, a chart or a picture. While one visitor's page imports such a
module, another's would find it half made."""


@asynccontextmanager
async def ready(server: Any) -> AsyncIterator[None]:
    await anyio.to_thread.run_sync(warm)
    yield


def warm() -> None:
    """Import what pages import late, and restore small pictures with the weights of the first page.

    The second of them shows how fast this machine is, which the first visitor is told (see `invlib.pace`).
    """
    import pages.ui

    for name in (*LATE, *(found.name for found in pkgutil.walk_packages(pages.ui.__path__, "pages.ui."))):
        importlib.import_module(name)
    from PIL import Image

    from invlib import engines, examples, runs

    Image.init()  # all formats
    for side in (32, 128):
        problem = runs.pose("super-resolution", examples.picture("coffee", side=side), {"factor": 4})
        runs.finish(engines.solve(problem, runs.settings(problem, given={"evaluations": 2})))


app = st.App(APP, lifespan=ready, routes=api.ROUTES)
