import sys

from invlib.cli import main

sys.exit(main())
