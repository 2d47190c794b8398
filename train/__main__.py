"""`python -m train --config FILE[:VARIATION] [--workdir DIR] [--config.KEY=VALUE ...]`."""

import sys

from train import cli

if __name__ == '__main__':
    sys.exit(cli.main(sys.argv))
