import sys

from rigorl.cli import main

sys.exit(main())
