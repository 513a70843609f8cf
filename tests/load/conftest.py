"""Pages without a browser and the server of the browser's tests serve these tests too."""

from tests.browser.conftest import app as app
from tests.pages.conftest import _pictures_are_decoded_here as _pictures_are_decoded_here
from tests.pages.conftest import open_page as open_page
