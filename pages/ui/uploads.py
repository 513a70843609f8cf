"""Uploads: Streamlit keeps every file that a browser sends until the page is closed, whether or not a widget asked."""

from __future__ import annotations

from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

KEPT = 3
"""How many files of a session are kept, the last ones: the uploader has one, the camera too, and one may replace it."""


class FewUploads(MemoryUploadedFileManager):
    """Streamlit's storage of uploads, which forgets the oldest file of a session that has sent too many."""

    def add_file(self, session_id: str, file: UploadedFileRec) -> None:
        super().add_file(session_id, file)
        for oldest in list(self.file_storage[session_id])[:-KEPT]:
            self.remove_file(session_id, oldest)


def keep_few() -> None:
    """Let the storage of the server, if there is one, forget files. No option of Streamlit does that."""
    if runtime.exists() and type(storage := runtime.get_instance().uploaded_file_mgr) is MemoryUploadedFileManager:
        storage.__class__ = FewUploads
